//! One `pam_authenticate`: from the arguments to the return value.

use std::ffi::CStr;

use backupcodes_core::config::Config;
use backupcodes_core::config::module_options::Options;
use backupcodes_core::hash::Memory;
use backupcodes_core::origin::Origin;
use backupcodes_core::store::{Accepted, FileStore};
use backupcodes_core::verify::{Level, Login, Process};
use nix::unistd::geteuid;
use pam::constants::PamResultCode::{self, PAM_IGNORE, PAM_SUCCESS};
use pam::constants::{PAM_SILENT, PAM_TEXT_INFO, PamFlag};
use pam::secret::SecretBytes;

use crate::denial::Denial;
use crate::handle::Handle;
use crate::sys::{FreshMemory, has_memory, shielded_from_caller, watch_forks};
use crate::{broker, delivery, reminder, response};

/// Asks for a code, and returns PAM_SUCCESS only when it is spent on stable storage.
pub(crate) fn authenticate(handle: &mut Handle<'_>, arguments: &[&CStr], flags: PamFlag) -> PamResultCode {
    match attempt(handle, arguments, flags) {
        Ok(()) => PAM_SUCCESS,
        Err(Denial { code, level, reason }) => {
            handle.log(level, &reason);
            code
        }
    }
}

fn attempt(handle: &mut Handle<'_>, arguments: &[&CStr], flags: PamFlag) -> Result<(), Denial> {
    watch_forks();
    // Of an earlier attempt that another module refused in the end.
    reminder::take(handle);
    let (options, usable) = Options::parse(arguments);
    // Before all that can fail here: no fault of this module may fail a verification code that the next one checks.
    let early = if options.forward_pass { Some(response::or_forward(handle, &options)?) } else { None };
    usable.map_err(Denial::unusable)?;
    if !has_memory() {
        return Err(Denial::unavailable(
            "no memory for an attempt; see the limits of the program (ulimit -v)",
        ));
    }
    let config = Config::load(options.conf.as_deref()).map_err(Denial::unusable)?;
    let access = Access::find(handle, &config)?;
    let account = handle.account()?;
    let origin = handle.origin(account.as_ref());
    let login = Login { config: &config, account: account.as_ref(), origin: &origin };
    if options.nullok && access.has_no_set(&login)? {
        let reason = format!("passed over: no set, and nullok is given; {origin}");
        return Err(Denial::new(PAM_IGNORE, Level::Debug, reason));
    }
    if access == Access::ReadOnly {
        return Err(Denial::unavailable("the sets are read-only here, and there is no broker"));
    }
    let response = early.map_or_else(|| response::get(handle, &options), Ok)?;
    if options.debug {
        log_version(handle, &config, &origin);
    }
    let response = response.as_ref().map_or([].as_slice(), SecretBytes::as_bytes);
    let accepted = access.check(&login, response, handle)?;
    // The broker starts a delivery of its own.
    if config.notify.spawn && access == Access::Direct {
        if let Err(error) = delivery::start(options.conf.as_deref()) {
            handle.log(Level::Warning, &format!("the notice of this use stays due: {error}; {origin}"));
        }
    }
    reminder::leave(handle, &accepted);
    if !options.quiet && flags & PAM_SILENT == 0 {
        let text = reminder::after_use(accepted.number(), accepted.left(), config.codes.low);
        // A text that does not arrive fails no login.
        let _ = handle.converse(PAM_TEXT_INFO, &text);
    }
    Ok(())
}

fn log_version(handle: &Handle<'_>, config: &Config, origin: &Origin) {
    let directory = config.directory.display();
    let line = format!(
        concat!("pam_backupcodes ", env!("CARGO_PKG_VERSION"), "; looking in {}; {}"),
        directory, origin
    );
    handle.log(Level::Debug, &line);
}

/// How this process can work with the sets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// By itself.
    Direct,
    /// Through the broker.
    Broker,
    /// Root sees them on a disk that became read-only, where no broker runs: it can still prove that there is no set.
    ReadOnly,
}

impl Access {
    /// # Errors
    /// There is none. Then nobody is asked for what cannot be judged.
    fn find(handle: &Handle<'_>, config: &Config) -> Result<Self, Denial> {
        if !FileStore::new(&config.directory).wants_broker() {
            return Ok(Self::Direct);
        }
        let Err(error) = broker::find(config) else { return Ok(Self::Broker) };
        let denial = Denial::unavailable(error);
        if !geteuid().is_root() {
            return Err(denial);
        }
        handle.log(denial.level, &denial.reason);
        Ok(Self::ReadOnly)
    }

    /// Whether it is proven that the user has no set.
    ///
    /// # Errors
    /// The broker has the sets of another directory.
    fn has_no_set(self, login: &Login<'_>) -> Result<bool, Denial> {
        match self {
            Self::Broker => broker::has_no_set(login).map_err(Denial::unavailable),
            Self::Direct | Self::ReadOnly => Ok(login.has_no_set()),
        }
    }

    /// Has the response judged and its code spent.
    ///
    /// # Errors
    /// [`Denial`]: it is not accepted.
    fn check(self, login: &Login<'_>, response: &[u8], handle: &Handle<'_>) -> Result<Accepted, Denial> {
        let accepted = match self {
            Self::Broker => broker::check(login, response),
            Self::Direct | Self::ReadOnly => login.attempt(response, &ThisProcess(handle)),
        };
        accepted.map_err(Denial::from)
    }
}

/// The process of the application, which has loaded the module.
struct ThisProcess<'a>(&'a Handle<'a>);

impl Process for ThisProcess<'_> {
    fn memory(&self) -> Box<dyn Memory> {
        Box::<FreshMemory>::default()
    }

    fn shielded(&self, f: &mut dyn FnMut()) -> Result<(), String> {
        shielded_from_caller(f)
    }

    fn log(&self, level: Level, line: &str) {
        self.0.log(level, line);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use manual_pages::tags;
    use pam::constants::PamResultCode::{self, PAM_CONV_AGAIN, PAM_SYSTEM_ERR};

    #[test]
    fn every_return_value_is_in_the_manual_and_no_other() {
        // What libpam says to us, and we say otherwise.
        let heard = [PAM_CONV_AGAIN, PAM_SYSTEM_ERR].map(|code| format!("{code:?}"));
        let codes: BTreeSet<_> = (0..64)
            .filter_map(|code| PamResultCode::try_from(code).ok())
            .map(|code| format!("{code:?}"))
            .collect();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let files =
            [folder.clone(), folder.join("sys")].into_iter().flat_map(|folder| folder.read_dir().unwrap());
        let mut returned = BTreeSet::new();
        for file in files.map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
            let source = std::fs::read_to_string(file).unwrap();
            let words = source.split(|c: char| !c.is_ascii_uppercase() && c != '_').map(String::from);
            returned.extend(words.filter(|word| codes.contains(word) && !heard.contains(word)));
        }
        let documented = tags(include_str!("../../man/pam_backupcodes.8"), "RETURN VALUES");
        assert_eq!(documented.into_iter().collect::<BTreeSet<_>>(), returned);
    }
}
