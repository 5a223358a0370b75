//! Many hosts at once: each is a service with its own connections, and one client.

use std::collections::VecDeque;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use backupcodes_tests::bench::median;
use backupcodes_tests::etcd::Cluster;
use backupcodes_tests::fleet::Host;

use super::Code;

/// The longest that an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Spends of one number of hosts.
const SPENDS: usize = 4000;

/// The latencies of one number of hosts that spend one code after the other, in milliseconds.
pub(crate) struct Latency {
    pub(crate) hosts: usize,
    pub(crate) median: f64,
    /// 99 of 100 are faster.
    pub(crate) slow: f64,
}

pub(crate) fn report(cluster: &Cluster, admin: &Host, count: usize) -> Vec<Latency> {
    println!("\n3. {count} hosts: each has a service, connections and a client of its own");
    let hosts: Vec<_> = (0..count).map(|_| Host::new(cluster, "host1")).collect();
    // All connect.
    all_at_once(&hosts, &mut Code::make(admin, "connect", count));
    let counts = [1, 3, 10, 30, 100, 300, 1000].into_iter().take_while(|&few| few < count).chain([count]);
    let latencies: Vec<_> = counts.map(|few| one_after_the_other(admin, &hosts[..few])).collect();

    println!(
        "\n4. {count} hosts whose services have just started, all at the same moment: connect, and log in"
    );
    let mut codes = Code::make(admin, "storm", 3 * count);
    for _ in 0..3 {
        thread::scope(|scope| {
            for hosts in hosts.chunks(count.div_ceil(4)) {
                scope.spawn(|| hosts.iter().for_each(Host::restart));
            }
        });
        let answers = all_at_once(&hosts, &mut codes);
        let slowest = answers.iter().map(|answer| answer.time).max().unwrap_or_default();
        let late = answers.iter().filter(|answer| answer.time > DEADLINE).count();
        let failed: Vec<_> = answers.iter().filter_map(|answer| answer.failed.as_ref()).collect();
        println!(
            "   slowest answer {:>6.2} s, later than 5 s: {late}    goal: 0;  not accepted: {}{}",
            slowest.as_secs_f64(),
            failed.len(),
            failed.first().map(|failed| format!(", first: {failed}")).unwrap_or_default()
        );
    }
    latencies
}

struct Answer {
    time: Duration,
    failed: Option<String>,
}

/// Each host spends a code at the same moment.
fn all_at_once(hosts: &[Host], codes: &mut Vec<Code>) -> Vec<Answer> {
    let start = Barrier::new(hosts.len());
    let codes = codes.split_off(codes.len() - hosts.len());
    thread::scope(|scope| {
        let spend = |(host, code): (&Host, Code)| {
            let (store, start) = (host.store(), &start);
            scope.spawn(move || {
                start.wait();
                let begin = Instant::now();
                let failed = code.log_in(&store).err();
                Answer { time: begin.elapsed(), failed }
            })
        };
        let threads: Vec<_> = hosts.iter().zip(codes).map(spend).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Each host spends one code after the other.
fn one_after_the_other(admin: &Host, hosts: &[Host]) -> Latency {
    let spends = SPENDS.max(20 * hosts.len()) / if hosts.len() < 10 { 4 } else { 1 };
    let codes = Code::make(admin, &format!("of-{}-", hosts.len()), spends);
    let codes = Mutex::new(VecDeque::from(codes));
    let begin = Instant::now();
    let done: Vec<(Vec<f64>, usize)> = thread::scope(|scope| {
        let client = |host: &Host| {
            let (store, codes) = (host.store(), &codes);
            scope.spawn(move || {
                let (mut times, mut failed) = (Vec::new(), 0);
                loop {
                    let Some(code) = codes.lock().unwrap().pop_front() else { return (times, failed) };
                    let begin = Instant::now();
                    failed += usize::from(code.spend(&store).is_err());
                    times.push(begin.elapsed().as_secs_f64() * 1e3);
                }
            })
        };
        let threads: Vec<_> = hosts.iter().map(client).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let failed: usize = done.iter().map(|(_, failed)| failed).sum();
    let times: Vec<_> = done.into_iter().flat_map(|(times, _)| times).collect();
    let rate = spends as f64 / begin.elapsed().as_secs_f64();
    let mut sorted = times.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let (median, slow) = (median(&times), sorted[sorted.len() * 99 / 100]);
    let hosts = hosts.len();
    let goal = if hosts >= 1000 { "    goal: at least 500 a second" } else { "" };
    println!(
        "   {hosts:>5} hosts: {rate:>6.0} spends a second, median {median:>8.1} ms, 99 of 100 within {slow:>8.1} ms, not accepted: {failed}{goal}"
    );
    Latency { hosts, median, slow }
}
