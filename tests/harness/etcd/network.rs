//! The networks of the nodes, joined by a switch that is a bridge in a network of its own.

use std::process::Command;

use crate::feed;
use crate::machine::run;

/// They end with this value.
pub(super) struct Network;

pub(super) fn address(node: usize) -> String {
    format!("10.77.0.{}", node + 1)
}

/// The name of the network that a node is in.
pub(super) fn name(node: usize) -> String {
    format!("fleet-{node}")
}

impl Network {
    pub(super) fn new() -> Self {
        // Made first: where a step fails, what there is goes away.
        let network = Self;
        sh("ip netns add fleet-switch
            ip -n fleet-switch link add switch type bridge
            ip -n fleet-switch link set switch up
            ip link add fleet type veth peer name sandbox netns fleet-switch
            ip -n fleet-switch link set sandbox master switch up
            ip address add 10.77.0.100/24 dev fleet
            ip link set fleet up");
        for node in 0..3 {
            let (name, address) = (name(node), address(node));
            sh(&format!(
                "ip netns add {name}
                ip -n fleet-switch link add node{node} type veth peer name eth0 netns {name}
                ip -n fleet-switch link set node{node} master switch up
                ip -n {name} address add {address}/24 dev eth0
                ip -n {name} link set eth0 up
                ip -n {name} link set lo up"
            ));
        }
        network
    }

    /// Pulls the cable out of the switch, where the node does not notice.
    pub(super) fn cut_off(&self, node: usize) {
        sh(&format!("ip -n fleet-switch link set node{node} nomaster"));
    }

    /// Both ends drop what would go to the other.
    pub(super) fn cut_off_from_nodes(&self, node: usize) {
        for other in (0..3).filter(|&other| other != node) {
            for (from, to) in [(node, other), (other, node)] {
                sh(&format!("ip -n {} route replace blackhole {}/32", name(from), address(to)));
            }
        }
    }

    /// Drops what the node would send to clients.
    pub(super) fn mute(&self, node: usize) {
        sh(&format!("ip -n {} route replace blackhole 10.77.0.100/32", name(node)));
    }

    pub(super) fn join(&self, node: usize) {
        sh(&format!("ip -n fleet-switch link set node{node} master switch"));
        let to_clients = format!("ip -n {} route delete blackhole 10.77.0.100/32", name(node));
        // It may not be there.
        let _ = feed(Command::new("sh").args(["-c", &to_clients]), "");
        for other in (0..3).filter(|&other| other != node) {
            for (from, to) in [(node, other), (other, node)] {
                let route = format!("ip -n {} route delete blackhole {}/32", name(from), address(to));
                // It may not be there.
                let _ = feed(Command::new("sh").args(["-c", &route]), "");
            }
        }
    }

    /// Whether the kernel has what this asks for.
    pub(super) fn slow(&self, node: usize, how: &str) -> bool {
        let discipline = format!("tc -n {} qdisc replace dev eth0 root {how}", name(node));
        feed(Command::new("sh").args(["-c", &discipline]), "").status.success()
    }

    pub(super) fn fast(&self, node: usize) {
        let discipline = format!("tc -n {} qdisc delete dev eth0 root", name(node));
        // It may not be there.
        let _ = feed(Command::new("sh").args(["-c", &discipline]), "");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The device first: where a network's name goes, the devices in it vanish some time later.
        let end = "ip link delete fleet; for name in fleet-0 fleet-1 fleet-2 fleet-switch; do ip netns delete $name; done";
        let _ = feed(Command::new("sh").args(["-c", end]), "");
    }
}

fn sh(script: &str) {
    run(Command::new("sh").args(["-ec", script]), "");
}
