//! One call of `pam_authenticate`, from the arguments to the return value.

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
use crate::{broker, reminder, response};

/// Prompts for a code. Returns PAM_SUCCESS only if the code is spent on stable storage.
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
    // Another module may have denied the login after an earlier, accepted attempt.
    reminder::take(handle);
    let (options, usable) = Options::parse(arguments);
    // This precedes everything that can fail: a fault here must not fail a verification code that the next module checks.
    let early = if options.forward_pass { Some(response::or_forward(handle, &options)?) } else { None };
    usable.map_err(Denial::unusable)?;
    if !has_memory() {
        return Err(Denial::unavailable(
            "no memory for an attempt; check the limits of the program (ulimit -v)",
        ));
    }
    let config = Config::load(options.conf.as_deref()).map_err(Denial::unusable)?;
    let mut access = Access::find(handle, &config)?;
    let account = handle.account()?;
    let origin = handle.origin(account.as_ref());
    let login = Login { config: &config, account: account.as_ref(), origin: &origin };
    if options.nullok && access.has_no_set(&login)? {
        let reason = format!("skipped: no set, and nullok is given; {origin}");
        return Err(Denial::new(PAM_IGNORE, Level::Debug, reason));
    }
    if matches!(access, Access::ReadOnly) {
        return Err(Denial::unavailable("the sets are read-only here, and there is no broker"));
    }
    let response = early.map_or_else(|| response::get(handle, &options), Ok)?;
    if options.debug {
        log_version(handle, &config, &origin);
    }
    let response = response.as_ref().map_or([].as_slice(), SecretBytes::as_bytes);
    let accepted = access.check(&login, response, handle)?;
    reminder::leave(handle, &accepted);
    if !options.quiet && flags & PAM_SILENT == 0 {
        let text = reminder::after_use(accepted.number(), accepted.left(), config.codes.low);
        // A text that the application does not show must not fail the login.
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

/// The access of this process to the sets.
enum Access {
    /// Direct access.
    Direct,
    /// Through the broker.
    Broker(broker::Found),
    /// Root on a read-only disk without a broker: the process can still prove that a user has no set.
    ReadOnly,
}

impl Access {
    /// # Errors
    /// No access: the user is not prompted for a code that cannot be judged.
    fn find(handle: &Handle<'_>, config: &Config) -> Result<Self, Denial> {
        if !FileStore::new(&config.directory).wants_broker() {
            return Ok(Self::Direct);
        }
        let denial = match broker::find(config) {
            Ok(found) => return Ok(Self::Broker(found)),
            Err(error) => Denial::unavailable(error),
        };
        if !geteuid().is_root() {
            return Err(denial);
        }
        handle.log(denial.level, &denial.reason);
        Ok(Self::ReadOnly)
    }

    /// Whether it is proven that the user has no set.
    ///
    /// # Errors
    /// The broker uses another directory of sets.
    fn has_no_set(&mut self, login: &Login<'_>) -> Result<bool, Denial> {
        match self {
            Self::Broker(found) => broker::has_no_set(found, login).map_err(Denial::unavailable),
            Self::Direct | Self::ReadOnly => Ok(login.has_no_set()),
        }
    }

    /// Judges the response and spends its code.
    ///
    /// # Errors
    /// [`Denial`]: it is not accepted.
    fn check(self, login: &Login<'_>, response: &[u8], handle: &Handle<'_>) -> Result<Accepted, Denial> {
        let accepted = match self {
            Self::Broker(found) => broker::check(found, login, response),
            Self::Direct | Self::ReadOnly => login.attempt(response, &ThisProcess(handle)),
        };
        accepted.map_err(Denial::from)
    }
}

/// The process of the application.
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
    fn the_manual_documents_exactly_the_return_values() {
        // The module only receives these from libpam.
        let received = [PAM_CONV_AGAIN, PAM_SYSTEM_ERR].map(|code| format!("{code:?}"));
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
            returned.extend(words.filter(|word| codes.contains(word) && !received.contains(word)));
        }
        let documented = tags(include_str!("../../man/pam_backupcodes.8"), "RETURN VALUES");
        assert_eq!(documented.into_iter().collect::<BTreeSet<_>>(), returned);
    }
}
