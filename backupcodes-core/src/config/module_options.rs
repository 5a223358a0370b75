//! The module's arguments in a PAM stack. They are in this crate because doctor checks them as well.

use std::ffi::CStr;
use std::path::PathBuf;

/// The arguments of one line.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// `conf=PATH`: this configuration file replaces the system's.
    pub conf: Option<PathBuf>,
    /// `prompt=TEXT`
    pub prompt: String,
    /// `echo`: show the code while the user types it.
    pub echo: bool,
    /// `nullok`: ignore users without a set.
    pub nullok: bool,
    /// `try_first_pass`: take a code from PAM_AUTHTOK, otherwise prompt.
    pub try_first_pass: bool,
    /// `use_first_pass`: take the response from PAM_AUTHTOK, without a prompt.
    pub use_first_pass: bool,
    /// `forward_pass`: forward a response that is too short for a code to the next module.
    pub forward_pass: bool,
    /// `quiet`: show no text except the prompt.
    pub quiet: bool,
    /// `debug`: log more, but never a response.
    pub debug: bool,
}

impl Options {
    /// Reads the arguments. The result has all known ones, even if another one is unknown.
    ///
    /// # Errors
    /// An unknown argument, as text for the log.
    pub fn parse<A: AsRef<CStr>>(arguments: &[A]) -> (Self, Result<(), String>) {
        let mut options = Self {
            conf: None,
            prompt: "Backup code: ".into(),
            echo: false,
            nullok: false,
            try_first_pass: false,
            use_first_pass: false,
            forward_pass: false,
            quiet: false,
            debug: false,
        };
        let mut verdict = Ok(());
        for argument in arguments {
            let text = argument.as_ref().to_string_lossy();
            match text.split_once('=') {
                Some(("conf", path)) if path.starts_with('/') => options.conf = Some(path.into()),
                Some(("prompt", prompt)) => options.prompt = prompt.into(),
                None if text == "echo" => options.echo = true,
                None if text == "nullok" => options.nullok = true,
                None if text == "try_first_pass" => options.try_first_pass = true,
                None if text == "use_first_pass" => options.use_first_pass = true,
                None if text == "forward_pass" => options.forward_pass = true,
                None if text == "quiet" => options.quiet = true,
                None if text == "debug" => options.debug = true,
                _ => verdict = Err(unknown(&text)),
            }
        }
        (options, verdict)
    }
}

/// All arguments, as text for an error.
pub const KNOWN: &str = "conf=/PATH, prompt=TEXT, echo, nullok, try_first_pass, use_first_pass, forward_pass, quiet or debug \
                         (an argument with spaces needs brackets: [prompt=Backup code: ])";

fn unknown(argument: &str) -> String {
    format!("unknown module argument {argument:?}; expected {KNOWN}; fix the line in the PAM stack")
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;
    use manual_pages::{entries, tags};

    #[test]
    fn only_known_arguments_are_accepted() {
        let all = [
            c"conf=/a b",
            c"prompt=Code, or = : ",
            c"echo",
            c"nullok",
            c"try_first_pass",
            c"use_first_pass",
            c"forward_pass",
            c"quiet",
            c"debug",
        ];
        let (options, verdict) = Options::parse(&all);
        assert_eq!(verdict, Ok(()));
        assert_eq!(options.conf.as_deref(), Some(std::path::Path::new("/a b")));
        assert_eq!(options.prompt, "Code, or = : ");
        assert!(options.echo && options.nullok && options.quiet && options.debug);
        assert!(options.try_first_pass && options.use_first_pass && options.forward_pass);
        let (none, _) = Options::parse::<&CStr>(&[]);
        assert_eq!(none.prompt, "Backup code: ");
        assert!(!(none.echo || none.nullok || none.quiet || none.debug || none.conf.is_some()));
        assert!(!(none.try_first_pass || none.use_first_pass || none.forward_pass));
        for wrong in [c"null_ok", c"nullok=1", c"conf", c"conf=relative", c"Debug", c"", c"prompt", c"\xff"] {
            let (options, verdict) = Options::parse(&[wrong, c"echo"]);
            let error = verdict.unwrap_err();
            assert!(options.echo, "the other arguments are read");
            assert!(error.contains("unknown module argument") && error.contains("nullok"), "{error}");
        }
    }

    #[test]
    fn the_manual_documents_exactly_the_options() {
        let page = include_str!("../../../man/pam_backupcodes.8");
        let mut documented = tags(page, "OPTIONS");
        let arguments: Vec<_> = documented.iter().map(|tag| CString::new(tag.as_str()).unwrap()).collect();
        let (options, verdict) = Options::parse(&arguments);
        assert_eq!(verdict, Ok(()));
        // All fields by name, so that the compiler reports a new one.
        let Options {
            conf,
            prompt,
            echo,
            nullok,
            try_first_pass,
            use_first_pass,
            forward_pass,
            quiet,
            debug,
        } = options;
        assert_eq!((conf, prompt.as_str()), (Some("/PATH".into()), "TEXT"));
        let flags = [echo, nullok, try_first_pass, use_first_pass, forward_pass, quiet, debug];
        assert_eq!(flags, [true; 7]);
        assert_eq!(documented.len(), 9, "{documented:?}");

        let entries = entries(page);
        let text = |section: &str, tag: Option<&str>| {
            let is_it =
                |entry: &&manual_pages::Entry| entry.section == section && entry.tag.as_deref() == tag;
            entries.iter().find(is_it).map(|entry| entry.text.as_str()).unwrap()
        };
        let (none, _) = Options::parse::<&CStr>(&[]);
        assert!(text("OPTIONS", Some("prompt=TEXT")).contains(&format!("{:?}", none.prompt)));
        let mut short: Vec<_> = text("SYNOPSIS", None)
            .split_whitespace()
            .skip(1)
            .map(|word| word.trim_matches(['[', ']']).to_owned())
            .collect();
        let error = unknown("x");
        let listed = error.split("expected ").nth(1).unwrap().split(" (").next().unwrap();
        let mut told: Vec<_> = listed.replace(" or ", ", ").split(", ").map(String::from).collect();
        for list in [&mut documented, &mut short, &mut told] {
            list.sort_unstable();
        }
        assert_eq!(short, documented);
        assert_eq!(told, documented);
    }
}
