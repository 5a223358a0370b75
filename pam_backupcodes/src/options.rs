//! The module's arguments in a PAM stack.

use std::ffi::CStr;
use std::path::PathBuf;

/// What a line of a PAM stack says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// `conf=PATH`: this configuration file instead of the system's.
    pub(crate) conf: Option<PathBuf>,
    /// `prompt=TEXT`
    pub(crate) prompt: String,
    /// `echo`: show what is typed.
    pub(crate) echo: bool,
    /// `nullok`: pass over users who have no set.
    pub(crate) nullok: bool,
    /// `quiet`: no texts beside the prompt.
    pub(crate) quiet: bool,
    /// `debug`: log more, never an answer.
    pub(crate) debug: bool,
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// One that is not known, in words for the log.
    pub(crate) fn parse(arguments: &[&CStr]) -> Result<Self, String> {
        let mut options = Self {
            conf: None,
            prompt: "Backup code: ".into(),
            echo: false,
            nullok: false,
            quiet: false,
            debug: false,
        };
        for argument in arguments {
            let text = argument.to_str().map_err(|_| unknown(&argument.to_string_lossy()))?;
            match text.split_once('=') {
                Some(("conf", path)) if path.starts_with('/') => options.conf = Some(path.into()),
                Some(("prompt", prompt)) => options.prompt = prompt.into(),
                None if text == "echo" => options.echo = true,
                None if text == "nullok" => options.nullok = true,
                None if text == "quiet" => options.quiet = true,
                None if text == "debug" => options.debug = true,
                _ => return Err(unknown(text)),
            }
        }
        Ok(options)
    }
}

fn unknown(argument: &str) -> String {
    format!(
        "unknown module argument {argument:?}; expected conf=/PATH, prompt=TEXT, echo, nullok, quiet or debug \
         (an argument with spaces stands in brackets: [prompt=Backup code: ]); mend the line in the PAM stack"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_and_no_other_is_taken() {
        let all = [c"conf=/a b", c"prompt=Code, or = : ", c"echo", c"nullok", c"quiet", c"debug"];
        let options = Options::parse(&all).unwrap();
        assert_eq!(options.conf.as_deref(), Some(std::path::Path::new("/a b")));
        assert_eq!(options.prompt, "Code, or = : ");
        assert!(options.echo && options.nullok && options.quiet && options.debug);
        let none = Options::parse(&[]).unwrap();
        assert_eq!(none.prompt, "Backup code: ");
        assert!(!(none.echo || none.nullok || none.quiet || none.debug || none.conf.is_some()));
        for wrong in [c"null_ok", c"nullok=1", c"conf", c"conf=relative", c"Debug", c"", c"prompt", c"\xff"] {
            let error = Options::parse(&[c"echo", wrong]).unwrap_err();
            assert!(error.contains("unknown module argument") && error.contains("nullok"), "{error}");
        }
    }
}
