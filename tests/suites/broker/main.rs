//! The broker: programs that are not root check codes through it, and attacks on it gain nothing.

mod attacks;
mod checks;
