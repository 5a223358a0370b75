//! The PAM handle of one call, safe to use: conversation, items, environment and log.

use std::ffi::{CStr, CString};

use backupcodes_core::account::Account;
use backupcodes_core::origin::{Origin, counter_of_unknown_user, normalized_host};
use backupcodes_core::verify::Level;
use pam::constants::PamMessageStyle;
use pam::constants::PamResultCode::{PAM_CONV_ERR, PAM_SYSTEM_ERR};
use pam::conv::Conv;
use pam::items::{AuthTok, Item, RHost, Service, Tty, User};
use pam::module::{PamHandle, PamResult};
use pam::secret::SecretBytes;

use crate::denial::Denial;
use crate::sys::libpam;

/// The PAM handle of one call.
pub(crate) struct Handle<'a>(&'a mut PamHandle);

impl<'a> Handle<'a> {
    pub(crate) fn of(pamh: &'a mut PamHandle) -> Self {
        Self(pamh)
    }

    /// Shows `text` to the user, or prompts for a response.
    pub(crate) fn converse(&self, style: PamMessageStyle, text: &str) -> PamResult<Option<SecretBytes>> {
        self.0.get_item::<Conv<'_>>()?.ok_or(PAM_CONV_ERR)?.send(style, text)
    }

    /// The response to another module: PAM_AUTHTOK.
    pub(crate) fn first_pass(&self) -> Option<SecretBytes> {
        self.0.get_item::<AuthTok<'_>>().ok().flatten().map(|token| token.to_owned_secret())
    }

    /// Forwards a response to the next module as PAM_AUTHTOK, or clears PAM_AUTHTOK.
    pub(crate) fn forward(&mut self, response: Option<&[u8]>) -> Result<(), Denial> {
        libpam::set_authtok(self.0, response).map_err(Denial::not_forwarded)
    }

    /// The account that logs in, or `None` for an unknown user. Every call reads the name, since the application may change it
    /// between calls.
    ///
    /// # Errors
    /// The application does not give the name, or the user database cannot be read.
    pub(crate) fn account(&mut self) -> Result<Option<Account>, Denial> {
        let name = match self.0.get_user(None) {
            Ok(name) => name,
            // A name that is not UTF-8 counts as unknown.
            Err(PAM_SYSTEM_ERR) if matches!(self.0.get_item::<User<'_>>(), Ok(Some(_))) => return Ok(None),
            Err(code) => return Err(Denial::no_conversation("name", code)),
        };
        Account::by_name(&name).map_err(Denial::unavailable)
    }

    /// The login origin, from the items of the application.
    pub(crate) fn origin(&self, account: Option<&Account>) -> Origin {
        let (host, service) = (self.item::<RHost<'_>>(), self.item::<Service<'_>>());
        Origin {
            user: account.map(|account| account.name.clone()),
            counted_as: account
                .is_none()
                .then(|| counter_of_unknown_user(&service, &self.item::<User<'_>>())),
            service,
            host: Some(host).filter(|host| !is_this_host(host)).map(normalized_host),
            tty: self.item::<Tty<'_>>(),
        }
    }

    /// Sets a variable of the PAM environment, `NAME=value`. A name alone removes the variable.
    pub(crate) fn set_variable(&mut self, name_value: &str) {
        if let Ok(name_value) = CString::new(name_value) {
            libpam::set_variable(self.0, &name_value);
        }
    }

    /// The value of a variable of the PAM environment.
    pub(crate) fn variable(&mut self, name: &CStr) -> Option<String> {
        libpam::variable(self.0, name)
    }

    /// Writes one line to the log.
    pub(crate) fn log(&self, level: Level, line: &str) {
        libpam::log(self.0, level, line);
    }

    fn item<'b, T>(&'b self) -> String
    where
        T: Item<'b> + std::ops::Deref<Target = &'b CStr>,
    {
        let item = self.0.get_item::<T>().ok().flatten();
        item.map_or_else(String::new, |item| item.to_string_lossy().into_owned())
    }
}

/// sudo and display managers set the name of the machine itself.
fn is_this_host(host: &str) -> bool {
    let is_own_name = || {
        nix::unistd::gethostname()
            .is_ok_and(|name| name.to_str().is_some_and(|name| name.eq_ignore_ascii_case(host)))
    };
    host.is_empty() || host.eq_ignore_ascii_case("localhost") || is_own_name()
}
