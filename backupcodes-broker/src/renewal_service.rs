//! Judges the PAM service of renewals.

use std::ffi::CString;
use std::path::Path;

use backupcodes_core::config::module_options::Options;
use pam_stack::{Entry, Files, Kind};

/// The PAM service of renewals.
pub(crate) const SERVICE: &str = "backupcodes";
/// The part that all file names of our module contain.
const MODULE: &str = "pam_backupcodes";

/// Checks that the service exists, is read by libpam as written, and uses the broker's configuration. libpam replaces a missing or
/// empty service by `other`, which may ask only for a password. If our module uses another directory than this broker, `nullok`
/// ignores users with a set here.
///
/// # Errors
/// Why the service cannot be used, as text for the log.
pub(crate) fn judge_service(conf: Option<&Path>) -> Result<(), String> {
    judge(&Files::below(Path::new("/")), conf)
}

fn judge(files: &Files<'_>, conf: Option<&Path>) -> Result<(), String> {
    const WITHOUT: &str =
        "so nobody can renew; expected the file that comes with the broker, or lines of your own";
    let file = format!("/etc/pam.d/{SERVICE}");
    let stack = files.stack(SERVICE).ok_or_else(|| format!("{file}: no such PAM service, {WITHOUT}"))?;
    // A missing file may ask for nothing, or have another conf=.
    if let Some((location, name)) = stack.missing.first() {
        return Err(format!(
            "{location}: {name:?} cannot be included; expected a PAM file, and at most 16 levels of includes"
        ));
    }
    let is_failure = |entry: &&Entry| matches!(entry.kind, Kind::MustFail);
    let lost = stack.faults.first().map(|(location, _)| location);
    let unclear = lost.or_else(|| stack.entries.iter().find(is_failure).map(|entry| &entry.location));
    if let Some(location) = unclear {
        return Err(format!("{location}: libpam loses or does not understand this line; fix it"));
    }
    if stack.is_refused {
        return Err(format!(
            "{file}: libpam cannot read it, or a file that it includes, to the end; fix the last line"
        ));
    }
    let modules = || stack.entries.iter().filter_map(|entry| Some((entry, entry.module()?)));
    if modules().next().is_none() {
        return Err(format!("{file}: no auth line, {WITHOUT}"));
    }
    for (Entry { location, .. }, arguments) in
        modules().filter(|(_, name)| name.contains(MODULE)).map(|(entry, _)| (entry, entry.arguments()))
    {
        let arguments: Vec<_> =
            arguments.iter().flat_map(|argument| CString::new(argument.as_str())).collect();
        let (options, usable) = Options::parse(&arguments);
        usable.map_err(|error| format!("{location}: {error}"))?;
        if options.conf.as_deref() != conf {
            let shown = |conf: Option<&Path>| conf.map_or("none".into(), |conf| conf.display().to_string());
            return Err(format!(
                "{location}: {MODULE} has another conf= ({}) than the --config of this broker ({}); expected the same",
                shown(options.conf.as_deref()),
                shown(conf)
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Judges a service with this text, beside a file `part`.
    fn judged(service: &str, part: &str, conf: Option<&str>) -> Result<(), String> {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/pam.d");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(SERVICE), service).unwrap();
        fs::write(folder.join("part"), part).unwrap();
        fs::create_dir(folder.join("folder")).unwrap();
        judge(&Files::below(root.path()), conf.map(Path::new))
    }

    #[test]
    fn another_conf_is_found_in_any_form() {
        let line = |rest: &str| format!("auth required pam_backupcodes.so {rest}\n");
        let [none, same, other] = ["nullok", "conf=/a nullok", "nullok conf=/b"].map(line);
        for service in [
            "@include part\n",
            "auth include part\n",
            "-auth substack part\n",
            "auth include /etc/pam.d/part\n",
        ] {
            assert_eq!(judged(service, &none, None), Ok(()), "{service}");
            assert_eq!(judged(service, &same, Some("/a")), Ok(()), "{service}");
            for (part, conf) in [(&none, Some("/a")), (&same, None), (&other, Some("/a")), (&other, None)] {
                let error = judged(service, part, conf).unwrap_err();
                assert!(
                    error.starts_with("/etc/pam.d/part:1: pam_backupcodes has another conf= ("),
                    "{error}"
                );
                // Another line has the right one.
                let both = format!("{}{service}", conf.map_or(none.clone(), |_| same.clone()));
                assert!(judged(&both, part, conf).is_err(), "{both}");
            }
        }
        for service in [
            "auth required \\\n pam_backupcodes.so \\\n nullok conf=/b\n",
            "auth [success=1 default=ignore] pam_backupcodes.so [conf=/b]\n",
            "-auth\trequired\tpam_backupcodes.so\tconf=/b\n",
            "AUTH REQUIRED /usr/lib/security/pam_backupcodes.so conf=/b # conf=/a\n",
            // The last argument counts.
            "auth required pam_backupcodes.so conf=/a conf=/b\n",
            "auth required pam_unix.so\nauth sufficient pam_backupcodes.so [prompt=conf=/a] conf=/b\n",
        ] {
            let error = judged(service, "", Some("/a")).unwrap_err();
            assert!(error.contains("has another conf= (/b)"), "{service}: {error}");
            assert_eq!(judged(service, "", Some("/b")), Ok(()), "{service}");
        }
        let error = judged(&line("conf=b"), "", None).unwrap_err();
        assert!(error.contains("unknown module argument"), "{error}");
        assert_eq!(
            judged(
                "auth required pam_unix.so conf=/b\n#auth required pam_backupcodes.so conf=/b\n",
                "",
                None
            ),
            Ok(())
        );
    }

    #[test]
    fn a_stack_that_libpam_does_not_read_as_written_is_refused() {
        let good = "auth required pam_unix.so\n";
        for (service, found) in [
            ("auth include no-such\n", "\"no-such\" cannot be included"),
            ("@include folder\n", "\"folder\" cannot be included"),
            ("auth substack\n", "\"\" cannot be included"),
            ("auth include backupcodes\n", "\"backupcodes\" cannot be included"),
            ("@include part\n@include /no/such\n", "\"/no/such\" cannot be included"),
            ("oath required pam_unix.so\n", "/etc/pam.d/backupcodes:2: libpam loses or"),
            ("auth required\n", "/etc/pam.d/backupcodes:2: libpam loses or"),
            ("auth\n", "/etc/pam.d/backupcodes:2: libpam loses or"),
            (
                "auth required pam_deny.so \\\nauth required pam_unix.so\n",
                "/etc/pam.d/backupcodes:2: libpam loses",
            ),
            ("auth required pam_deny.so \\\n", "/etc/pam.d/backupcodes:2: libpam loses"),
        ] {
            let error = judged(&format!("{good}{service}"), good, None).unwrap_err();
            assert!(error.contains(found), "{service}: {error}");
        }
        for service in
            ["", "account required pam_unix.so\n", "@include part\n", "#auth required pam_unix.so\n"]
        {
            let error = judged(service, "account required pam_unix.so\n", None).unwrap_err();
            assert!(error.contains("no auth line"), "{service}: {error}");
        }
        assert_eq!(judged(good, "", None), Ok(()));
    }
}
