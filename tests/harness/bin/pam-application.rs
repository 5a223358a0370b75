//! A small PAM application: reads attempts as JSON from standard input, makes each in a process of its own through the real
//! libpam, and prints their outcomes as JSON.
//!
//! Of several attempts, all stop at their first prompt until the last one has come so far: then they race.

use std::ffi::{CStr, CString, c_int, c_void};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use backupcodes_tests::condition::{Condition, HANDLED, Squeezed, end_forks, settle};
use backupcodes_tests::libpam::{
    Conversation, Message, Response, pam_acct_mgmt, pam_authenticate, pam_chauthtok, pam_close_session,
    pam_end, pam_open_session, pam_set_item, pam_setcred, pam_start_confdir,
};
use backupcodes_tests::process_state::Looker;
use backupcodes_tests::usage::Usage;
use backupcodes_tests::{Answer, Attempt, Outcome, Said};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

fn main() {
    let attempts: Vec<Attempt> = serde_json::from_reader(std::io::stdin()).expect("attempts as JSON");
    let count: usize = attempts.iter().map(|attempt| attempt.threads).sum();
    let (mut ready_reader, ready) = pipe();
    let (gate, gate_holder) = pipe();
    let mut children = Vec::new();
    for attempt in &attempts {
        let (reader, mut writer) = pipe();
        // SAFETY: this process has one thread.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => children.push((child, reader)),
            ForkResult::Child => {
                drop(gate_holder);
                // One alone has nobody to wait for, and its descriptors are counted.
                let barrier = (count > 1).then(|| Barrier { ready, gate });
                let outcome = serde_json::to_vec(&make(attempt, barrier)).expect("an outcome as JSON");
                writer.write_all(&outcome).expect("a pipe to write to");
                // SAFETY: ends the process at once, as it should.
                unsafe { libc::_exit(0) };
            }
        }
    }
    drop(ready);
    // One byte for each attempt at its prompt; those that end without one just close the pipe.
    let _ = ready_reader.read_exact(&mut vec![0; count]);
    drop(gate_holder);
    let outcomes: Vec<Option<Outcome>> = children
        .into_iter()
        .map(|(child, mut reader)| {
            let mut text = String::new();
            reader.read_to_string(&mut text).expect("a pipe to read from");
            waitpid(child, None).expect("a child to wait for");
            serde_json::from_str(&text).ok()
        })
        .collect();
    serde_json::to_writer(std::io::stdout(), &outcomes).expect("standard output");
}

fn pipe() -> (File, File) {
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    (reader.into(), writer.into())
}

/// After so many transactions a process has what it needs, and should not grow.
const WARM_UP: usize = 50;

fn make(attempt: &Attempt, barrier: Option<Barrier>) -> Outcome {
    settle();
    let looker = Looker::new();
    let barriers: Vec<_> = (0..attempt.threads).map(|_| barrier.as_ref().map(Barrier::share)).collect();
    drop(barrier);
    // They are closed at the prompt, or at the end.
    let closed: Vec<_> = barriers.iter().flatten().flat_map(Barrier::descriptors).collect();
    let transactions: Vec<_> = barriers
        .into_iter()
        .enumerate()
        .map(|(at, barrier)| Transaction::start(attempt, at, barrier))
        .collect();
    let mut usage = Vec::new();
    attempt.conditions.iter().for_each(Condition::impose);
    let mut before = looker.look();
    before.descriptors.retain(|descriptor| !closed.contains(&descriptor.number));
    let squeezed = attempt.memory_left.map(Squeezed::new);
    let (mut codes, said) = run_all(transactions);
    for time in 1..attempt.times {
        if time == WARM_UP {
            usage.push(Usage::now());
        }
        codes = Transaction::start(attempt, time, None).run().0;
    }
    if attempt.times > 1 {
        usage.push(Usage::now());
    }
    drop(squeezed);
    end_forks();
    // The kernel takes a thread that was waited for out of its list a moment later.
    let start = Instant::now();
    while looker.threads() > before.threads && start.elapsed() < Duration::from_secs(1) {
        std::thread::yield_now();
    }
    let handled = HANDLED.load(std::sync::atomic::Ordering::Relaxed);
    Outcome { codes, said, state: [before, looker.look()], handled, usage }
}

fn run_all(mut transactions: Vec<Transaction<'_>>) -> (Vec<i32>, Vec<Said>) {
    if transactions.len() == 1 {
        return transactions.remove(0).run();
    }
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            transactions.into_iter().map(|transaction| scope.spawn(|| transaction.run())).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let (codes, said): (Vec<_>, Vec<_>) = results.into_iter().unzip();
    (codes.concat(), said.into_iter().flatten().collect())
}

/// Where those who race wait for each other.
struct Barrier {
    ready: File,
    gate: File,
}

impl Barrier {
    fn share(&self) -> Self {
        let share = |file: &File| file.try_clone().expect("a descriptor");
        Self { ready: share(&self.ready), gate: share(&self.gate) }
    }

    fn descriptors(&self) -> [c_int; 2] {
        [self.ready.as_raw_fd(), self.gate.as_raw_fd()]
    }

    fn wait(self) {
        let Self { mut ready, mut gate } = self;
        let _ = ready.write_all(&[1]);
        drop(ready);
        // Opens when the last holder of the other end lets go.
        while gate.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
    }
}

const PAM_USER: c_int = 2;
const PAM_TTY: c_int = 3;
const PAM_RHOST: c_int = 4;
const PAM_ESTABLISH_CRED: c_int = 2;
const PAM_SUCCESS: c_int = 0;
const PAM_BUF_ERR: c_int = 5;
const PAM_CONV_ERR: c_int = 19;
const PAM_CONV_AGAIN: c_int = 30;

/// From pam_start to pam_end.
struct Transaction<'a> {
    attempt: &'a Attempt,
    handle: *mut c_void,
    talker: *mut Talker<'a>,
    codes: Vec<i32>,
}

// SAFETY: handle and talker belong to this transaction alone, and the talker's parts may be sent.
unsafe impl Send for Transaction<'_> {}

impl<'a> Transaction<'a> {
    /// `first` is the number of its first answer.
    fn start(attempt: &'a Attempt, first: usize, barrier: Option<Barrier>) -> Self {
        let text = |bytes: &[u8]| CString::new(bytes).expect("no NUL");
        let user = text(&attempt.user);
        let (service, folder) = (text(&attempt.service), text(attempt.folder.as_bytes()));
        let talker = Box::into_raw(Box::new(Talker::new(attempt, first, barrier)));
        let conversation = Conversation { talk: answer, data: talker.cast() };
        let mut handle = null_mut();
        // SAFETY: libpam copies the strings and the conversation, whose talker lives until pam_end.
        let status = unsafe {
            pam_start_confdir(
                service.as_ptr(),
                if attempt.user.is_empty() { null() } else { user.as_ptr() },
                &raw const conversation,
                folder.as_ptr(),
                &raw mut handle,
            )
        };
        assert_eq!(status, PAM_SUCCESS, "pam_start_confdir");
        let codes = Vec::with_capacity(attempt.calls.len());
        let transaction = Self { attempt, handle, talker, codes };
        for (item, value) in [(PAM_RHOST, &attempt.rhost), (PAM_TTY, &attempt.tty)] {
            if let Some(value) = value {
                assert_eq!(transaction.set(item, value), PAM_SUCCESS);
            }
        }
        transaction
    }

    fn set(&self, item: c_int, value: &[u8]) -> c_int {
        let value = CString::new(value).expect("no NUL");
        // SAFETY: the handle is live, and libpam copies the string.
        unsafe { pam_set_item(self.handle, item, value.as_ptr().cast()) }
    }

    fn run(mut self) -> (Vec<i32>, Vec<Said>) {
        let (attempt, handle, talker) = (self.attempt, self.handle, self.talker);
        for call in &attempt.calls {
            // SAFETY: the handle is live.
            let code = unsafe {
                match call.as_str() {
                    "authenticate" => pam_authenticate(handle, attempt.flags),
                    "setcred" => pam_setcred(handle, PAM_ESTABLISH_CRED),
                    "acct_mgmt" => pam_acct_mgmt(handle, 0),
                    "chauthtok" => pam_chauthtok(handle, 0),
                    "open_session" => pam_open_session(handle, attempt.flags),
                    "close_session" => pam_close_session(handle, 0),
                    // Somebody looks at this process, and lets it go on.
                    "stop" => libc::raise(libc::SIGSTOP),
                    other => match other.strip_prefix("user=") {
                        Some(user) => self.set(PAM_USER, user.as_bytes()),
                        None => panic!("no such call: {other}"),
                    },
                }
            };
            self.codes.push(code);
        }
        // SAFETY: the handle is live, and not used after this.
        unsafe { pam_end(handle, PAM_SUCCESS) };
        // SAFETY: it came from a box, and libpam has let it go.
        (self.codes, unsafe { Box::from_raw(talker) }.said)
    }
}

/// Who answers. Nothing here needs memory that must be had: what the module does without is what is tested.
struct Talker<'a> {
    attempt: &'a Attempt,
    said: Vec<Said>,
    answers: Vec<Prepared>,
    next: usize,
    barrier: Option<Barrier>,
}

enum Prepared {
    Text(CString),
    Scrambled(CString),
    Null,
    Status(c_int),
}

impl<'a> Talker<'a> {
    fn new(attempt: &'a Attempt, first: usize, barrier: Option<Barrier>) -> Self {
        let text = |bytes: &[u8]| Prepared::Text(CString::new(bytes).expect("answers hold no NUL"));
        let prepare = |answer: &Answer| match answer {
            Answer::Text(answer) => text(answer.as_bytes()),
            Answer::Bytes(bytes) => text(bytes),
            Answer::Scrambled(bytes) => Prepared::Scrambled(CString::new(bytes.clone()).expect("no NUL")),
            Answer::Null => Prepared::Null,
            Answer::Again => Prepared::Status(PAM_CONV_AGAIN),
            Answer::Fail => Prepared::Status(PAM_CONV_ERR),
        };
        let answers = attempt.answers.iter().map(prepare).collect();
        Self { attempt, said: Vec::with_capacity(16), answers, next: first, barrier }
    }

    /// What is answered to one message: nothing for a text, or a status that ends the conversation.
    fn answer(&mut self, style: c_int, text: &CStr) -> Result<*mut libc::c_char, c_int> {
        let mut copy = String::new();
        if copy.try_reserve(text.count_bytes()).is_ok() {
            copy.push_str(text.to_str().unwrap_or("not UTF-8"));
        }
        self.said.push(Said { style, text: copy });
        // 1 and 2 are prompts, without and with echo.
        if style > 2 {
            return if self.attempt.texts_fail { Err(PAM_CONV_ERR) } else { Ok(null_mut()) };
        }
        if let Some(barrier) = self.barrier.take() {
            barrier.wait();
        }
        if let Some(seconds) = self.attempt.seconds_to_answer {
            std::thread::sleep(Duration::from_secs(seconds));
        }
        self.attempt.conditions.iter().for_each(Condition::at_prompt);
        self.next += 1;
        match self.answers.get(self.next - 1) {
            // SAFETY: a C string, whose copy is freed by libpam's caller.
            Some(Prepared::Text(text)) => match unsafe { libc::strdup(text.as_ptr()) } {
                copy if copy.is_null() => Err(PAM_BUF_ERR),
                copy => Ok(copy),
            },
            Some(Prepared::Scrambled(text)) => {
                // SAFETY: a C string, whose copy of the same length is freed by libpam's caller.
                unsafe {
                    let copy = libc::strdup(text.as_ptr());
                    (0..text.count_bytes()).for_each(|at| *copy.add(at) ^= 0xff_u8 as libc::c_char);
                    Ok(copy)
                }
            }
            Some(Prepared::Null) => Ok(null_mut()),
            Some(&Prepared::Status(status)) => Err(status),
            None => Err(PAM_CONV_ERR),
        }
    }
}

extern "C" fn answer(
    count: c_int,
    messages: *mut *const Message,
    out: *mut *mut Response,
    talker: *mut c_void,
) -> c_int {
    let Ok(count) = usize::try_from(count) else { return PAM_CONV_ERR };
    // SAFETY: libpam hands back the talker of its transaction, which is alive and not in use elsewhere.
    let talker: &mut Talker<'_> = unsafe { &mut *talker.cast() };
    // SAFETY: calloc gives zeroed memory, which libpam's caller frees.
    let responses: *mut Response = unsafe { libc::calloc(count, size_of::<Response>()).cast() };
    if responses.is_null() {
        return PAM_BUF_ERR;
    }
    for at in 0..count {
        // SAFETY: Linux-PAM passes an array of `count` pointers to messages with C strings.
        let (style, text) = unsafe {
            let message = &**messages.add(at);
            (message.style, if message.text.is_null() { c"" } else { CStr::from_ptr(message.text) })
        };
        match talker.answer(style, text) {
            // SAFETY: `at` is within the array.
            Ok(text) => unsafe { (*responses.add(at)).text = text },
            Err(status) => {
                // SAFETY: nobody else has this pointer.
                unsafe { libc::free(responses.cast()) };
                return status;
            }
        }
    }
    // SAFETY: libpam passes a place for one pointer.
    unsafe { *out = responses };
    PAM_SUCCESS
}
