//! One function a target. Each says whether the bytes led to the heart of the matter, so that seeds that have gone stale
//! are noticed.

mod arguments;
mod attempt;
mod call;
mod code;
mod configuration;
mod folder;
mod set;
mod throttle;
mod time;

pub use arguments::arguments;
pub use attempt::attempt;
pub use call::call;
pub use code::code;
pub use configuration::configuration;
pub use set::set;
pub use throttle::throttle;
