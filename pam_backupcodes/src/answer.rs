//! Where the answer comes from, and what of it goes to the next module.

use backupcodes_core::code::Code;
use pam::constants::PamResultCode::PAM_AUTH_ERR;
use pam::constants::{PAM_PROMPT_ECHO_OFF, PAM_PROMPT_ECHO_ON};
use pam::items::AuthTok;
use pam::module::PamHandle;
use pam::secret::SecretBytes;

use crate::attempt::{No, converse, no_conversation};
use crate::ffi::{Level, hand_on};
use crate::options::Options;

/// An answer of fewer characters is no backup code, however it was mistyped: a code has 15 at least.
const SIGNIFICANT: usize = 12;

/// The answer. `None` is one that is missing, and counts as empty.
///
/// # Errors
/// Nobody answered.
pub(crate) fn get(pamh: &PamHandle, options: &Options) -> Result<Option<SecretBytes>, No> {
    if options.use_first_pass || options.try_first_pass {
        let first = pamh.get_item::<AuthTok<'_>>().ok().flatten().map(|token| token.to_owned_secret());
        // What is no code is what another module asked for, a password most likely.
        let is_code = first.as_ref().is_some_and(|first| Code::parse(first.as_bytes()).is_ok());
        if options.use_first_pass || is_code {
            return Ok(first);
        }
    }
    let style = if options.echo { PAM_PROMPT_ECHO_ON } else { PAM_PROMPT_ECHO_OFF };
    converse(pamh, style, &options.prompt).map_err(|code| no_conversation("code", code))
}

/// The answer, if it may be a backup code. Any other goes to the next module. A backup code goes nowhere, and neither
/// does a mistyped one, nor what another module left where the next one looks.
///
/// # Errors
/// Nobody answered, or the answer was handed on.
pub(crate) fn or_hand_on(pamh: &mut PamHandle, options: &Options) -> Result<Option<SecretBytes>, No> {
    let answer = get(pamh, options)?;
    let bytes = answer.as_ref().map_or([].as_slice(), SecretBytes::as_bytes);
    let is_short = Code::significant(bytes) < SIGNIFICANT;
    hand_on(pamh, is_short.then_some(bytes)).map_err(|code| {
        No(PAM_AUTH_ERR, Level::Error, format!("the answer cannot be handed on: {code:?}; is there memory?"))
    })?;
    if is_short {
        let reason = "the answer is too short for a backup code, and is left to the next module";
        return Err(No(PAM_AUTH_ERR, Level::Debug, reason.into()));
    }
    Ok(answer)
}
