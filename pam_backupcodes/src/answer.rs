//! Where the answer comes from, and what of it goes to the next module.

use backupcodes_core::code::Code;
use backupcodes_core::code::typed::{significant, verification_code};
use backupcodes_core::config::module_options::Options;
use backupcodes_core::verify::Level;
use pam::constants::PamResultCode::{self, PAM_AUTH_ERR};
use pam::constants::{PAM_PROMPT_ECHO_OFF, PAM_PROMPT_ECHO_ON};
use pam::items::AuthTok;
use pam::module::PamHandle;
use pam::secret::SecretBytes;

use crate::attempt::{Denial, converse, no_conversation};
use crate::ffi::hand_on;

/// An answer of fewer characters is no backup code, however it was mistyped: a code has 15 at least.
const SIGNIFICANT: usize = 12;

/// The answer. `None` is one that is missing, and counts as empty.
///
/// # Errors
/// Nobody answered.
pub(crate) fn get(pamh: &mut PamHandle, options: &Options) -> Result<Option<SecretBytes>, Denial> {
    if options.use_first_pass || options.try_first_pass {
        let first = pamh.get_item::<AuthTok<'_>>().ok().flatten().map(|token| token.to_owned_secret());
        // What is no code is what another module asked for, a password most likely.
        let is_code = first.as_ref().is_some_and(|first| Code::parse(first.as_bytes()).is_ok());
        if is_code {
            // It may be refused, and still be good: no other module shall see it.
            hand_on(pamh, None).map_err(|code| unable(&code))?;
        }
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
pub(crate) fn or_hand_on(pamh: &mut PamHandle, options: &Options) -> Result<Option<SecretBytes>, Denial> {
    let answer = get(pamh, options);
    let bytes = answer.as_ref().ok().and_then(Option::as_ref).map_or([].as_slice(), SecretBytes::as_bytes);
    // Modules behind know ASCII digits alone.
    let verification_code = verification_code(bytes);
    let length = significant(bytes);
    let is_short = length < SIGNIFICANT || verification_code.is_some();
    // An empty answer is none: some modules take the empty one for a right one.
    let as_typed = (is_short && length > 0).then_some(bytes);
    let for_next = verification_code.as_deref().map(Vec::as_slice).or(as_typed);
    hand_on(pamh, for_next).map_err(|code| unable(&code))?;
    let answer = answer?;
    if is_short {
        let reason = "the answer is too short for a backup code, and is left to the next module";
        return Err(Denial(PAM_AUTH_ERR, Level::Debug, reason.into()));
    }
    Ok(answer)
}

fn unable(code: &PamResultCode) -> Denial {
    Denial(PAM_AUTH_ERR, Level::Error, format!("PAM_AUTHTOK cannot be set: {code:?}; is there memory?"))
}
