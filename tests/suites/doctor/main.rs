//! `doctor` and what packages ask before removal: each finding is true, and there is no false alarm.

mod findings;
mod logins;
mod removal;
mod stacks;
