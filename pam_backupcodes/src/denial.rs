//! A login that is not accepted: the return value and the log line.

use std::fmt::Display;

use backupcodes_core::verify::{self, Level, Outcome};
use pam::constants::PamResultCode::{
    self, PAM_AUTH_ERR, PAM_AUTHINFO_UNAVAIL, PAM_CONV_AGAIN, PAM_CONV_ERR, PAM_INCOMPLETE, PAM_SERVICE_ERR,
    PAM_USER_UNKNOWN,
};

/// Why a login is not accepted.
pub(crate) struct Denial {
    /// The return value of the module.
    pub(crate) code: PamResultCode,
    pub(crate) level: Level,
    pub(crate) reason: String,
}

impl Denial {
    pub(crate) fn new(code: PamResultCode, level: Level, reason: impl Into<String>) -> Self {
        Self { code, level, reason: reason.into() }
    }

    /// The options or the configuration are unusable.
    pub(crate) fn unusable(reason: impl Display) -> Self {
        Self::new(PAM_SERVICE_ERR, Level::Error, reason.to_string())
    }

    /// Nothing is known about the user's codes.
    pub(crate) fn unavailable(reason: impl Display) -> Self {
        Self::new(PAM_AUTHINFO_UNAVAIL, Level::Error, reason.to_string())
    }

    /// The application did not prompt the user, or will call again.
    pub(crate) fn no_conversation(what: &str, code: PamResultCode) -> Self {
        match code {
            PAM_CONV_AGAIN | PAM_INCOMPLETE => Self::new(
                PAM_INCOMPLETE,
                Level::Error,
                format!("the application will call again with the {what}"),
            ),
            code => Self::new(
                PAM_CONV_ERR,
                Level::Error,
                format!("the application did not ask for the {what}: {code:?}"),
            ),
        }
    }

    /// The response cannot be forwarded, or cannot be hidden from the next module.
    pub(crate) fn not_forwarded(code: PamResultCode) -> Self {
        let reason = format!("PAM_AUTHTOK cannot be set: {code:?}; check the free memory");
        Self::new(PAM_AUTH_ERR, Level::Error, reason)
    }
}

impl From<verify::Denial> for Denial {
    fn from(denial: verify::Denial) -> Self {
        let code = match denial.outcome {
            Outcome::Refused => PAM_AUTH_ERR,
            Outcome::UserUnknown => PAM_USER_UNKNOWN,
            Outcome::Unavailable => PAM_AUTHINFO_UNAVAIL,
        };
        Self::new(code, denial.level, denial.reason)
    }
}
