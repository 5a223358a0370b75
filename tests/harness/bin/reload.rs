//! `reload MODULE`: loads and unloads a library, and prints what the process uses after the first 50 times and after
//! 1,000 more, as JSON.

use std::ffi::CString;

use backupcodes_tests::usage::Usage;

fn main() {
    let module = std::env::args().nth(1).expect("usage: reload MODULE");
    let module = CString::new(module).unwrap();
    let reload = |_| {
        // SAFETY: the library's constructors and destructors may run, and nothing of it is in use when it is unloaded.
        unsafe {
            let library = libc::dlopen(module.as_ptr(), libc::RTLD_NOW);
            assert!(!library.is_null());
            assert_eq!(libc::dlclose(library), 0);
            let loaded = libc::dlopen(module.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
            assert!(loaded.is_null(), "it stays loaded");
        }
    };
    (0..50).for_each(reload);
    let before = Usage::now();
    (0..1000).for_each(reload);
    let looks = [before, Usage::now()];
    serde_json::to_writer(std::io::stdout(), &looks).unwrap();
}
