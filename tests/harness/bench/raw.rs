//! What the machine can do: Argon2id as `generate` computes it, and nothing beside it.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread::{available_parallelism, scope};
use std::time::{Duration, Instant};

use backupcodes_core::code::{Code, CodeNumber, SHORTEST_SECRET};
use backupcodes_core::hash::{CodeHash, Cost, HeapMemory};
use rand::rngs::SysRng;

pub fn processors() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Nanoseconds from one hash of any thread to the next.
pub(super) fn hash_for(threads: usize, time: Duration) -> f64 {
    let barrier = Barrier::new(threads);
    let a_second = scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(|| one_thread(&barrier, time))).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).sum::<f64>()
    });
    1e9 / a_second
}

/// Hashes a second. Memory is kept from one to the next, and was touched before the first that counts.
fn one_thread(barrier: &Barrier, time: Duration) -> f64 {
    let code = Code::generate(CodeNumber::new(1).unwrap(), SHORTEST_SECRET, &mut SysRng).unwrap();
    let mut memory = HeapMemory::default();
    let mut hash = || CodeHash::create(&code, Cost::DEFAULT, &mut SysRng, &mut memory).unwrap();
    black_box(hash());
    barrier.wait();
    let (start, mut count) = (Instant::now(), 0.0);
    while start.elapsed() < time {
        black_box(hash());
        count += 1.0;
    }
    count / start.elapsed().as_secs_f64()
}
