//! Who logs in, by which service and from where, as the log and the mark tell it.

use backupcodes_core::account::Account;
use backupcodes_core::throttle::{Key, LOCAL};
use pam::items::{Item, RHost, Service, Tty};
use pam::module::PamHandle;

/// Where an attempt comes from.
pub(crate) struct Place {
    user: Option<String>,
    /// The PAM service.
    pub(crate) service: String,
    /// The remote host; `None` is this one.
    host: Option<String>,
    tty: String,
}

impl Place {
    /// What the application tells of the attempt. The name of a user who does not exist is left out: people type
    /// passwords where a name is asked.
    pub(crate) fn of(pamh: &PamHandle, account: Option<&Account>) -> Self {
        let host = item::<RHost<'_>>(pamh);
        Self {
            user: account.map(|account| account.name.clone()),
            service: item::<Service<'_>>(pamh),
            host: Some(host).filter(|host| !is_this_host(host)),
            tty: item::<Tty<'_>>(pamh),
        }
    }

    /// The remote host, or `local`, as it is shown. A remote host that calls itself so is shown in another way.
    pub(crate) fn source(&self) -> &str {
        match self.host.as_deref() {
            None => LOCAL,
            Some(LOCAL) => "?local",
            Some(host) => host,
        }
    }

    /// What failures from here are counted by.
    pub(crate) fn key(&self) -> Key<'_> {
        Key { user: self.user.as_deref(), service: &self.service, source: self.host.as_deref() }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { user, service, tty, .. } = self;
        let fields = [
            ("user=", user.as_deref()),
            (" service=", Some(service)),
            (" source=", Some(self.source())),
            (" tty=", Some(tty)),
        ];
        fields.into_iter().try_for_each(|(key, value)| match value {
            Some(value) => write!(f, "{key}{}", plain(value)),
            None => write!(f, "{key}(unknown)"),
        })
    }
}

/// sudo and display managers name the host itself.
fn is_this_host(host: &str) -> bool {
    let is_own_name = || {
        nix::unistd::gethostname()
            .is_ok_and(|name| name.to_str().is_some_and(|name| name.eq_ignore_ascii_case(host)))
    };
    host.is_empty() || host.eq_ignore_ascii_case("localhost") || is_own_name()
}

/// A value that comes from outside, so that it can neither end a line of the log nor pass for another field.
fn plain(value: &str) -> String {
    let plain = |c: char| if c.is_control() || c.is_whitespace() { '?' } else { c };
    value.chars().map(plain).collect()
}

fn item<'a, T>(pamh: &'a PamHandle) -> String
where
    T: Item<'a> + std::ops::Deref<Target = &'a std::ffi::CStr>,
{
    pamh.get_item::<T>().ok().flatten().map_or_else(String::new, |item| item.to_string_lossy().into_owned())
}
