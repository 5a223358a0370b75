//! One function for each target. It returns whether the input reached the code that matters, to detect stale seeds.

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
