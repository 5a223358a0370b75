//! A small host of PAM: reads attempts as JSON from standard input, makes each in a process of its own through the real
//! libpam, and prints their outcomes as JSON.
//!
//! Of several attempts, all stop at their first prompt until the last one has come so far: then they race.

use std::ffi::{CStr, CString, c_int, c_void};
use std::fs::File;
use std::io::{Read, Write};
use std::ptr::{null, null_mut};

use backupcodes_tests::libpam::{
    Conversation, Message, Response, pam_acct_mgmt, pam_authenticate, pam_chauthtok, pam_close_session,
    pam_end, pam_open_session, pam_set_item, pam_setcred, pam_start_confdir,
};
use backupcodes_tests::{Answer, Attempt, Outcome, Said};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

fn main() {
    let attempts: Vec<Attempt> = serde_json::from_reader(std::io::stdin()).expect("attempts as JSON");
    let (mut ready_reader, ready) = pipe();
    let (gate, gate_holder) = pipe();
    let mut children = Vec::new();
    for attempt in &attempts {
        let (reader, writer) = pipe();
        // SAFETY: this process has one thread.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => children.push((child, reader)),
            ForkResult::Child => {
                drop(gate_holder);
                let outcome = Host { attempt, said: Vec::new(), next: 0, ready: Some(ready), gate }.run();
                serde_json::to_writer(writer, &outcome).expect("a pipe to write to");
                // SAFETY: ends the process at once, as it shall.
                unsafe { libc::_exit(0) };
            }
        }
    }
    drop(ready);
    // One byte for each attempt at its prompt; those that end without one just close the pipe.
    let _ = ready_reader.read_exact(&mut vec![0; attempts.len()]);
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

fn uids() -> [u32; 3] {
    let ids = nix::unistd::getresuid().expect("ids of this process");
    [ids.real, ids.effective, ids.saved].map(|id| id.as_raw())
}

fn pipe() -> (File, File) {
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    (reader.into(), writer.into())
}

struct Host<'a> {
    attempt: &'a Attempt,
    said: Vec<Said>,
    next: usize,
    ready: Option<File>,
    gate: File,
}

const PAM_TTY: c_int = 3;
const PAM_RHOST: c_int = 4;
const PAM_ESTABLISH_CRED: c_int = 2;
const PAM_SUCCESS: c_int = 0;
const PAM_BUF_ERR: c_int = 5;
const PAM_CONV_ERR: c_int = 19;
const PAM_CONV_AGAIN: c_int = 30;

impl Host<'_> {
    fn run(mut self) -> Outcome {
        let attempt = self.attempt;
        let text = |text: &str| CString::new(text).expect("no NUL");
        let user = CString::new(attempt.user.clone()).expect("no NUL");
        let (service, folder) = (text(&attempt.service), text(&attempt.folder));
        for (resource, limit) in [
            (Resource::RLIMIT_FSIZE, attempt.file_size_limit),
            (Resource::RLIMIT_AS, attempt.address_space_limit),
        ] {
            if let Some(limit) = limit {
                setrlimit(resource, limit, getrlimit(resource).unwrap().1).unwrap();
            }
        }
        let conversation = Conversation { talk: answer, data: (&raw mut self).cast() };
        let mut handle = null_mut();
        // SAFETY: all strings and the conversation live until pam_end.
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
        for (item, value) in [(PAM_RHOST, &attempt.rhost), (PAM_TTY, &attempt.tty)] {
            if let Some(value) = value {
                let value = text(value);
                // SAFETY: libpam copies the string.
                assert_eq!(unsafe { pam_set_item(handle, item, value.as_ptr().cast()) }, PAM_SUCCESS);
            }
        }
        let mut codes = Vec::new();
        let before = uids();
        for call in &attempt.calls {
            // SAFETY: the handle is live.
            codes.push(unsafe {
                match call.as_str() {
                    "authenticate" => pam_authenticate(handle, attempt.flags),
                    "setcred" => pam_setcred(handle, PAM_ESTABLISH_CRED),
                    "acct_mgmt" => pam_acct_mgmt(handle, 0),
                    "chauthtok" => pam_chauthtok(handle, 0),
                    "open_session" => pam_open_session(handle, attempt.flags),
                    "close_session" => pam_close_session(handle, 0),
                    other => panic!("no such call: {other}"),
                }
            });
        }
        let after = uids();
        // SAFETY: the handle is live, and not used after this.
        unsafe { pam_end(handle, PAM_SUCCESS) };
        Outcome { codes, said: self.said, uids: [before, after] }
    }

    /// What is answered to one message: nothing for a text, or a status that ends the conversation.
    fn answer(&mut self, style: c_int, text: String) -> Result<Option<Vec<u8>>, c_int> {
        self.said.push(Said { style, text });
        // 1 and 2 are prompts, without and with echo.
        if style > 2 {
            return if self.attempt.texts_fail { Err(PAM_CONV_ERR) } else { Ok(None) };
        }
        if let Some(mut ready) = self.ready.take() {
            let _ = ready.write_all(&[1]);
            drop(ready);
            // Opens when the last holder of the other end lets go.
            let _ = self.gate.read(&mut [0]);
        }
        let answer = self.attempt.answers.get(self.next);
        self.next += 1;
        match answer {
            Some(Answer::Text(text)) => Ok(Some(text.clone().into())),
            Some(Answer::Bytes(bytes)) => Ok(Some(bytes.clone())),
            Some(Answer::Null) => Ok(None),
            Some(Answer::Again) => Err(PAM_CONV_AGAIN),
            Some(Answer::Fail) | None => Err(PAM_CONV_ERR),
        }
    }
}

extern "C" fn answer(
    count: c_int,
    messages: *mut *const Message,
    out: *mut *mut Response,
    host: *mut c_void,
) -> c_int {
    let Ok(count) = usize::try_from(count) else { return PAM_CONV_ERR };
    // SAFETY: libpam hands back the host that `run` gave it, which is alive and not in use elsewhere.
    let host: &mut Host<'_> = unsafe { &mut *host.cast() };
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
        match host.answer(style, text.to_string_lossy().into_owned()) {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                let bytes = CString::new(bytes).expect("answers hold no NUL");
                // SAFETY: `at` is within the array, and strdup's copy is freed by libpam's caller.
                unsafe { (*responses.add(at)).text = libc::strdup(bytes.as_ptr()) };
            }
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
