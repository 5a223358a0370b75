//! Kills and power cuts at every moment: no code works twice, no set is lost, each use is told.

mod broker_killed;
mod killed;
mod killed_at_every_call;
mod power_cut;
mod power_cut_mail;
