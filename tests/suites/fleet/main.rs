//! Hosts that share sets in an etcd cluster of three nodes: what holds while nodes are killed, cut off, slow or full, and clocks jump.

mod cluster;
mod full;
mod histories;
mod hostile;
mod hosts;
mod killed;
mod logins;
mod mail;
mod moving;
mod replies;
mod restored;
mod signed;
mod sshd;
