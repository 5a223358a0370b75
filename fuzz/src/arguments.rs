use std::ffi::{CStr, CString};
use std::path::Path;

use backupcodes_core::config::module_options::Options;

/// Reads any arguments of a PAM stack line, separated by NUL. No argument sets an option that it does not name.
pub fn arguments(line: &[u8]) -> bool {
    let arguments: Vec<_> = line.split(|&byte| byte == 0).map(|part| CString::new(part).unwrap()).collect();
    let arguments: Vec<&CStr> = arguments.iter().map(CString::as_c_str).collect();
    let (options, verdict) = Options::parse(&arguments);
    let Options { conf, prompt, echo, nullok, try_first_pass, use_first_pass, forward_pass, quiet, debug } =
        options;
    for (is_on, name) in [
        (echo, c"echo"),
        (nullok, c"nullok"),
        (try_first_pass, c"try_first_pass"),
        (use_first_pass, c"use_first_pass"),
        (forward_pass, c"forward_pass"),
        (quiet, c"quiet"),
        (debug, c"debug"),
    ] {
        assert_eq!(is_on, arguments.contains(&name));
    }
    assert!(conf.as_deref().is_none_or(Path::is_absolute));
    let is_given = |key: &str| line.split(|&byte| byte == 0).any(|part| part.starts_with(key.as_bytes()));
    assert!(conf.is_none() || is_given("conf=/"));
    assert!(prompt == "Backup code: " || is_given("prompt="));
    if let Err(error) = &verdict {
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
    verdict.is_ok() && conf.is_some()
}
