//! A code works at most once, and only for its user; wrong codes cost time, and only where they were typed.

mod hash_permits;
mod race;
mod renamed;
mod throttle;
mod wrong_clocks;
