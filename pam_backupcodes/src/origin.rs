//! Who logs in, by which service and from where, as the application tells it.

use backupcodes_core::account::Account;
use backupcodes_core::origin::{Origin, counter_of_unknown_user, normalized_host};
use pam::items::{Item, RHost, Service, Tty, User};
use pam::module::PamHandle;

/// What the application tells of the attempt.
pub(crate) fn of(pamh: &PamHandle, account: Option<&Account>) -> Origin {
    let (host, service) = (item::<RHost<'_>>(pamh), item::<Service<'_>>(pamh));
    Origin {
        user: account.map(|account| account.name.clone()),
        counted_as: account.is_none().then(|| counter_of_unknown_user(&service, &item::<User<'_>>(pamh))),
        service,
        host: Some(host).filter(|host| !is_this_host(host)).map(normalized_host),
        tty: item::<Tty<'_>>(pamh),
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

fn item<'a, T>(pamh: &'a PamHandle) -> String
where
    T: Item<'a> + std::ops::Deref<Target = &'a std::ffi::CStr>,
{
    pamh.get_item::<T>().ok().flatten().map_or_else(String::new, |item| item.to_string_lossy().into_owned())
}
