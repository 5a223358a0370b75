//! Work on all processors whose results come in the order of the jobs.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{available_parallelism, scope};

/// What comes next.
pub(crate) enum Next<J> {
    Job(J),
    /// Nothing, until all pending results are in.
    Pause,
    End,
}

/// Results that are waited for at one time, for each processor: enough to keep it busy while results are taken, and few, so that
/// memory does not grow with the number of jobs.
const AHEAD: usize = 3;

/// Does `work` on all jobs that `next` gives, and hands the results to `take` in the order of the jobs, both in this
/// thread. Each worker has a state of its own. It ends early where `take` says so.
pub(crate) fn in_order<J: Send, R: Send, S: Default>(
    mut next: impl FnMut() -> Next<J>,
    work: impl Fn(&mut S, J) -> R + Sync,
    mut take: impl FnMut(R) -> ControlFlow<()>,
) {
    let processors = available_parallelism().map_or(1, usize::from);
    let most = processors.saturating_mul(AHEAD);
    let (jobs, queue) = sync_channel::<(J, SyncSender<R>)>(most);
    let queue = Queue { jobs: Mutex::new(queue), is_over: AtomicBool::new(false) };
    scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| worker(&queue, &work));
        }
        // Dropped before the scope waits for the workers: so they end.
        let jobs = jobs;
        let mut coming: VecDeque<Receiver<R>> = VecDeque::new();
        let (mut is_over, mut is_paused) = (false, false);
        loop {
            is_paused = is_paused && !coming.is_empty();
            while !is_over && !is_paused && coming.len() < most {
                match next() {
                    Next::Job(job) => {
                        let (result, receiver) = sync_channel(1);
                        if jobs.send((job, result)).is_err() {
                            return;
                        }
                        coming.push_back(receiver);
                    }
                    Next::Pause => is_paused = !coming.is_empty(),
                    Next::End => is_over = true,
                }
            }
            // Only a worker that panicked gives none; the scope panics then.
            let Some(Ok(result)) = coming.pop_front().map(|receiver| receiver.recv()) else { return };
            if take(result).is_break() {
                queue.is_over.store(true, Ordering::Relaxed);
                return;
            }
        }
    });
}

/// The same with a slice of `items` a job, for work that takes little time for each item.
pub(crate) fn slices_in_order<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&[T]) -> R + Sync,
    take: impl FnMut(R) -> ControlFlow<()>,
) {
    const TOGETHER: usize = 64;
    let mut jobs = items.chunks(TOGETHER);
    in_order(|| jobs.next().map_or(Next::End, Next::Job), |_: &mut (), items| work(items), take);
}

/// Jobs, each with the channel for its result.
struct Queue<J, R> {
    jobs: Mutex<Receiver<(J, SyncSender<R>)>>,
    /// Nobody waits for results any more.
    is_over: AtomicBool,
}

fn worker<J, R, S: Default>(queue: &Queue<J, R>, work: &(impl Fn(&mut S, J) -> R + Sync)) {
    let mut state = S::default();
    let receive = || queue.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok((job, result)) = receive() {
        if queue.is_over.load(Ordering::Relaxed) {
            return;
        }
        // After an early end nobody waits for it.
        let _ = result.send(work(&mut state, job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    fn job(jobs: &mut impl Iterator<Item = usize>) -> Next<usize> {
        jobs.next().map_or(Next::End, Next::Job)
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "jobs take different times")]
    fn results_come_in_order_and_few_are_on_their_way() {
        let (mut jobs, mut taken) = (0..500, Vec::new());
        let (begun, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |_: &mut (), job: usize| {
            most.fetch_max(begun.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_micros(if job % 7 == 0 { 3000 } else { 10 }));
            job * 2
        };
        in_order(
            || job(&mut jobs),
            work,
            |result| {
                begun.fetch_sub(1, Ordering::SeqCst);
                taken.push(result);
                ControlFlow::Continue(())
            },
        );
        assert_eq!(taken, (0..500).map(|job| job * 2).collect::<Vec<_>>());
        let processors = available_parallelism().unwrap().get();
        assert!(most.load(Ordering::SeqCst) <= processors * AHEAD);
    }

    #[test]
    fn a_pause_waits_for_all_results_before_it() {
        let (mut jobs, taken) = (0..20, AtomicUsize::new(0));
        let mut paused = false;
        let next = || {
            let given = jobs.start;
            if given == 10 && !std::mem::replace(&mut paused, true) {
                return Next::Pause;
            }
            assert!(given != 10 || taken.load(Ordering::SeqCst) == 10);
            job(&mut jobs)
        };
        let take = |_| {
            taken.fetch_add(1, Ordering::SeqCst);
            ControlFlow::Continue(())
        };
        in_order(next, |_: &mut (), job| job, take);
        assert_eq!(taken.into_inner(), 20);
    }

    #[test]
    fn an_early_end_takes_no_more_and_ends() {
        let (mut jobs, mut taken) = (0..1000, 0);
        let take = |_| {
            taken += 1;
            if taken == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        in_order(|| job(&mut jobs), |_: &mut (), job| job, take);
        assert_eq!(taken, 5);
    }
}
