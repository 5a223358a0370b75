//! Users renew their own codes with `backupcodes`, and attacks on that gain nothing.

mod attacks;
mod own_codes;
