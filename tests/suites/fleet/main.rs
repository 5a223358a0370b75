//! An etcd cluster of three nodes: what holds of it while nodes are killed, cut off, slow or full.

mod cluster;
mod hosts;
