//! What fails while codes are spent.

use std::thread::sleep;
use std::time::Duration;

use backupcodes_tests::chance::Chance;
use backupcodes_tests::etcd::Cluster;
use backupcodes_tests::fleet::Host;
use backupcodes_tests::patience::wait_until;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    FollowerKilled,
    LeaderKilled,
    FollowerStopped,
    LeaderStopped,
    FollowerCutOff,
    LeaderCutOff,
    TwoNodesGone,
    RepliesLost,
    NarrowLine,
    FullDisk,
    ServiceKilled,
    ClockJumps,
}

impl Fault {
    pub const ALL: [Self; 12] = [
        Self::FollowerKilled,
        Self::LeaderKilled,
        Self::FollowerStopped,
        Self::LeaderStopped,
        Self::FollowerCutOff,
        Self::LeaderCutOff,
        Self::TwoNodesGone,
        Self::RepliesLost,
        Self::NarrowLine,
        Self::FullDisk,
        Self::ServiceKilled,
        Self::ClockJumps,
    ];

    /// One fault, and the end of it.
    pub fn happen(self, cluster: &Cluster, hosts: &[Host], chance: &mut Chance) {
        let leader = cluster.leader();
        let follower = (leader + 1 + chance.index(2)) % 3;
        match self {
            Self::FollowerKilled => killed(cluster, &[follower], 3000, chance),
            Self::LeaderKilled => killed(cluster, &[leader], 3000, chance),
            Self::FollowerStopped => stopped(cluster, follower, chance),
            Self::LeaderStopped => stopped(cluster, leader, chance),
            Self::FollowerCutOff => cut_off(cluster, &[follower], 3000, chance),
            Self::LeaderCutOff => cut_off(cluster, &[leader], 3000, chance),
            Self::TwoNodesGone if chance.below(2) == 0 => killed(cluster, &[leader, follower], 8000, chance),
            Self::TwoNodesGone => cut_off(cluster, &[leader, follower], 8000, chance),
            Self::RepliesLost => {
                for _ in 0..8 {
                    let node = chance.index(3);
                    cluster.mute(node);
                    pause(chance, 1000);
                    cluster.join(node);
                }
            }
            Self::NarrowLine => {
                // Each change has to pass that of the leader, also one that another node was asked for.
                cluster.narrow(leader, u32::try_from(30 + chance.below(100)).unwrap());
                hold(chance);
                cluster.fast(leader);
            }
            Self::FullDisk => full([leader, follower][chance.index(2)], follower, cluster, chance),
            Self::ServiceKilled => {
                for _ in 0..5 {
                    let host = &hosts[chance.index(hosts.len())];
                    host.kill();
                    pause(chance, 100);
                    host.start();
                    pause(chance, 300);
                }
            }
            Self::ClockJumps => {
                for _ in 0..5 {
                    let host = &hosts[chance.index(hosts.len())];
                    let days = i64::try_from(chance.below(200)).unwrap() - 100;
                    host.set_clock(days * 24 * 60 * 60);
                    // A new connection has certificates, which are good from today for 90 days.
                    cluster.restart(chance.index(3));
                    pause(chance, 500);
                    host.set_clock(0);
                }
            }
        }
    }
}

fn killed(cluster: &Cluster, nodes: &[usize], most: u64, chance: &mut Chance) {
    for &node in nodes {
        cluster.kill(node);
    }
    pause(chance, most);
    for &node in nodes {
        cluster.restart(node);
    }
}

fn stopped(cluster: &Cluster, node: usize, chance: &mut Chance) {
    cluster.stop(node);
    hold(chance);
    cluster.go_on(node);
}

fn cut_off(cluster: &Cluster, nodes: &[usize], most: u64, chance: &mut Chance) {
    for &node in nodes {
        cluster.cut_off(node);
    }
    pause(chance, most);
    for &node in nodes {
        cluster.join(node);
    }
}

fn full(node: usize, follower: usize, cluster: &Cluster, chance: &mut Chance) {
    cluster.fill_disk(node);
    // Spent records find room in the files that etcd has: these values do not.
    let (other, large) = (if node == follower { (node + 1) % 3 } else { follower }, "x".repeat(100_000));
    wait_until("the end of the full node", || {
        cluster.ctl_at(other, &cluster.root(), &["--command-timeout=1s", "put", "/large", &large]);
        !cluster.runs(node)
    });
    hold(chance);
    cluster.make_room(node);
    cluster.restart(node);
}

/// Some end before there is another leader, some later.
fn hold(chance: &mut Chance) {
    pause(chance, 3000);
}

fn pause(chance: &mut Chance, most: u64) {
    sleep(Duration::from_millis(chance.below(most)));
}
