//! One measurement in a process of its own: the bench starts itself with a piece of work, and reads what it took.

use std::ffi::{CStr, CString, c_int, c_void};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::raw;
use crate::libpam::{Conversation, Message, Response, pam_authenticate, pam_end, pam_start_confdir};
use crate::pam;

/// The first argument of a process that measures; the work follows as JSON.
pub const ROLE: &str = "measure";

#[derive(Serialize, Deserialize)]
pub enum Work {
    /// One login, from `pam_start_confdir` to `pam_end`.
    Login { folder: PathBuf, service: String, user: String, answer: String, expected: c_int },
    /// One `argon2id_hash_raw` of libargon2 with the parameters that are our defaults.
    ReferenceHash,
    /// dlopen and dlclose of a PAM module.
    Load(PathBuf),
    /// A program from start to end, with all it writes to a pipe that is read.
    Program(Vec<String>),
    /// Argon2id with our defaults on so many threads at once, for so long: the time is that of one hash of all threads
    /// together.
    Hashes { threads: usize, seconds: f64 },
}

#[derive(Serialize, Deserialize)]
pub struct Sample {
    pub nanoseconds: f64,
    /// Most memory that the process ever had in use, or the program, but for one that had less than this process.
    pub peak_kib: f64,
}

pub fn measure(work: &Work) -> Sample {
    measure_as(geteuid().as_raw(), work)
}

/// The same in a process of this uid's.
pub fn measure_as(uid: u32, work: &Work) -> Sample {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([ROLE, &serde_json::to_string(work).unwrap()])
        .uid(uid)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaint}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Hashes a second of so many threads together.
pub fn hashes_a_second(threads: usize, time: Duration) -> f64 {
    1e9 / measure(&Work::Hashes { threads, seconds: time.as_secs_f64() }).nanoseconds
}

pub fn run(work: &str) {
    let mut peak = peak_kib as fn() -> f64;
    let nanoseconds = match serde_json::from_str(work).unwrap() {
        Work::Login { folder, service, user, answer, expected } => {
            let [folder, service, user, answer] =
                [folder.to_str().unwrap(), &service, &user, &answer].map(c_string);
            login(&folder, &service, &user, &answer, expected)
        }
        Work::ReferenceHash => reference_hash(),
        Work::Load(file) => load(&c_string(file.to_str().unwrap())),
        Work::Program(line) => {
            peak = peak_kib_of_programs;
            program(&line)
        }
        Work::Hashes { threads, seconds } => raw::hash_for(threads, Duration::from_secs_f64(seconds)),
    };
    let sample = Sample { nanoseconds, peak_kib: peak() };
    println!("{}", serde_json::to_string(&sample).unwrap());
}

fn c_string(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn peak_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// It begins with what this process had when it started the program: the kernel counts that too.
fn peak_kib_of_programs() -> f64 {
    i32::try_from(getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss()).unwrap().into()
}

/// `CLOCK_MONOTONIC` is what `Instant` reads.
fn nanoseconds(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64() * 1e9
}

fn login(folder: &CStr, service: &CStr, user: &CStr, answer: &CStr, expected: c_int) -> f64 {
    let conversation = Conversation { talk: answer_all, data: answer.as_ptr().cast_mut().cast() };
    let mut pamh = null_mut();
    nanoseconds(|| {
        // SAFETY: the strings and the conversation live until `pam_end`, and `pamh` is a place for the handle.
        let started = unsafe {
            pam_start_confdir(service.as_ptr(), user.as_ptr(), &conversation, folder.as_ptr(), &mut pamh)
        };
        assert_eq!(started, 0, "pam_start_confdir");
        // SAFETY: libpam has just made this handle.
        let verdict = unsafe { pam_authenticate(pamh, 0) };
        assert_eq!(verdict, expected, "pam_authenticate of {service:?}");
        // SAFETY: as above; it is not used again.
        unsafe { pam_end(pamh, verdict) };
    })
}

/// Answers every hidden prompt with what was given to libpam at the start.
extern "C" fn answer_all(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    answer: *mut c_void,
) -> c_int {
    let count = usize::try_from(count).unwrap();
    // SAFETY: libpam frees the array and the texts in it with `free`; Linux-PAM passes an array of pointers.
    unsafe {
        *responses = libc::calloc(count, size_of::<Response>()).cast();
        for at in 0..count {
            if (**messages.add(at)).style == pam::PROMPT_ECHO_OFF {
                (*(*responses).add(at)).text = libc::strdup(answer.cast());
            }
        }
    }
    0
}

fn program(line: &[String]) -> f64 {
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]).stdin(Stdio::null()).stdout(Stdio::piped());
    nanoseconds(|| {
        let mut child = command.spawn().unwrap();
        std::io::copy(child.stdout.as_mut().unwrap(), &mut std::io::sink()).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{}: {status}", line[0]);
    })
}

type HashRaw = unsafe extern "C" fn(
    passes: u32,
    memory_kib: u32,
    lanes: u32,
    password: *const c_void,
    password_length: usize,
    salt: *const c_void,
    salt_length: usize,
    tag: *mut c_void,
    tag_length: usize,
) -> c_int;

fn reference_hash() -> f64 {
    // SAFETY: libargon2's own constructors are all that runs.
    let library = unsafe { libc::dlopen(c"libargon2.so.1".as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null(), "libargon2.so.1");
    // SAFETY: the library is open.
    let symbol = unsafe { libc::dlsym(library, c"argon2id_hash_raw".as_ptr()) };
    assert!(!symbol.is_null(), "argon2id_hash_raw");
    // SAFETY: this is the type that argon2.h gives to the symbol.
    let argon2id_hash_raw: HashRaw = unsafe { std::mem::transmute(symbol) };
    let (secret, salt, mut tag) = ([b'7'; 15], [1_u8; 16], [0_u8; 32]);
    nanoseconds(|| {
        // SAFETY: three live arrays with their lengths.
        let failed = unsafe {
            argon2id_hash_raw(
                2,
                19_456,
                1,
                secret.as_ptr().cast(),
                secret.len(),
                salt.as_ptr().cast(),
                salt.len(),
                tag.as_mut_ptr().cast(),
                tag.len(),
            )
        };
        assert_eq!(failed, 0, "argon2id_hash_raw");
    })
}

pub fn can_be_loaded(library: &str) -> bool {
    let library = c_string(library);
    // SAFETY: the library's own constructors are all that runs.
    let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW) };
    // SAFETY: the handle is open, and nothing of it is in use.
    !handle.is_null() && unsafe { libc::dlclose(handle) } == 0
}

/// In a namespace with libpam and libc alone: this process has libgcc_s already, which sshd would have to load.
fn load(file: &CStr) -> f64 {
    // SAFETY: the library's own constructors are all that runs.
    let libpam = unsafe { libc::dlmopen(libc::LM_ID_NEWLM, c"libpam.so.0".as_ptr(), libc::RTLD_NOW) };
    assert!(!libpam.is_null(), "libpam.so.0");
    let mut namespace: libc::Lmid_t = 0;
    // SAFETY: the handle is open, and RTLD_DI_LMID writes one Lmid_t.
    let failed = unsafe { libc::dlinfo(libpam, libc::RTLD_DI_LMID, (&raw mut namespace).cast()) };
    assert_eq!(failed, 0, "dlinfo");
    nanoseconds(|| {
        // SAFETY: the module's own constructors are all that runs.
        let handle = unsafe { libc::dlmopen(namespace, file.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null(), "{file:?}");
        // SAFETY: the handle is open, and nothing of it is in use.
        unsafe { libc::dlclose(handle) };
    })
}
