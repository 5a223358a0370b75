//! Where the user's response comes from, and what the next module gets of it.

use backupcodes_core::code::Code;
use backupcodes_core::code::typed::{significant, verification_code};
use backupcodes_core::config::module_options::Options;
use backupcodes_core::verify::Level;
use pam::constants::PamResultCode::PAM_AUTH_ERR;
use pam::constants::{PAM_PROMPT_ECHO_OFF, PAM_PROMPT_ECHO_ON};
use pam::secret::SecretBytes;

use crate::denial::Denial;
use crate::handle::Handle;

/// A response with fewer significant characters is not even a mistyped code: a code has at least 15.
const SIGNIFICANT: usize = 12;

/// Gets the response, from PAM_AUTHTOK or by a prompt. `None` counts as an empty response.
pub(crate) fn get(handle: &mut Handle<'_>, options: &Options) -> Result<Option<SecretBytes>, Denial> {
    if options.use_first_pass || options.try_first_pass {
        let first = handle.first_pass();
        // Anything else is the response to another module, probably a password.
        let is_code = first.as_ref().is_some_and(|first| Code::parse(first.as_bytes()).is_ok());
        if is_code {
            // The code may be good even if it is refused here: no other module must see it.
            handle.forward(None)?;
        }
        if options.use_first_pass || is_code {
            return Ok(first);
        }
    }
    let style = if options.echo { PAM_PROMPT_ECHO_ON } else { PAM_PROMPT_ECHO_OFF };
    handle.converse(style, &options.prompt).map_err(|code| Denial::no_conversation("code", code))
}

/// Gets the response if it may be a backup code, and forwards any other response to the next module. It never forwards a backup
/// code, a mistyped code, or an earlier PAM_AUTHTOK.
///
/// # Errors
/// The prompt fails, or the response is forwarded.
pub(crate) fn or_forward(handle: &mut Handle<'_>, options: &Options) -> Result<Option<SecretBytes>, Denial> {
    let response = get(handle, options);
    let bytes = response.as_ref().ok().and_then(Option::as_ref).map_or([].as_slice(), SecretBytes::as_bytes);
    // Modules that check verification codes know only ASCII digits.
    let verification_code = verification_code(bytes);
    let length = significant(bytes);
    let is_short = length < SIGNIFICANT || verification_code.is_some();
    // Some modules accept an empty response.
    let as_typed = (is_short && length > 0).then_some(bytes);
    handle.forward(verification_code.as_deref().map(Vec::as_slice).or(as_typed))?;
    let response = response?;
    if is_short {
        let reason = "the response is too short for a backup code, and is forwarded to the next module";
        return Err(Denial::new(PAM_AUTH_ERR, Level::Debug, reason));
    }
    Ok(response)
}
