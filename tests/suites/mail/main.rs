//! Notices: each event is told to the right addresses, at least once, and holds up no login.

mod addresses;
mod deliveries;
mod injection;
mod notices;
mod sendmail;
mod servers;
