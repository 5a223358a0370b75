//! Whether the PAM service of renewals can be relied on.

use std::ffi::CString;
use std::path::Path;

use backupcodes_core::config::module_options::Options;
use pam_stack::{Entry, Files, Kind};

/// The PAM service that says what a renewal takes.
pub(crate) const SERVICE: &str = "backupcodes";
/// Our module, whatever stands around it in the name of its file.
const MODULE: &str = "pam_backupcodes";

/// libpam takes the service `other` in the place of one that is missing or asks nothing, which may ask for a password alone. And
/// where our module looks into another directory than this broker, `nullok` passes over who has a set here.
///
/// # Errors
/// The service is not one to rely on with the configuration in `conf`.
pub(crate) fn judge_service(conf: Option<&Path>) -> Result<(), String> {
    judge(&Files::below(Path::new("/")), conf)
}

fn judge(files: &Files<'_>, conf: Option<&Path>) -> Result<(), String> {
    const WITHOUT: &str =
        "and no renewal without; expected the file that comes with the broker, or lines of your own";
    let file = format!("/etc/pam.d/{SERVICE}");
    let stack = files.stack(SERVICE).ok_or_else(|| format!("{file}: no such PAM service, {WITHOUT}"))?;
    // What cannot be seen may ask for nothing, or have another conf=.
    if let Some((place, name)) = stack.missing.first() {
        return Err(format!(
            "{place}: {name:?} cannot be included; expected a PAM file, and not too deep a nest"
        ));
    }
    let is_failure = |entry: &&Entry| matches!(entry.kind, Kind::MustFail);
    let lost = stack.faults.first().map(|(place, _)| place);
    let unclear = lost.or_else(|| stack.entries.iter().find(is_failure).map(|entry| &entry.place));
    if let Some(place) = unclear {
        return Err(format!("{place}: libpam loses this line, or does not understand it; mend it"));
    }
    if stack.is_refused {
        return Err(format!(
            "{file}: libpam cannot read it to its end, nor what it includes; mend the last line"
        ));
    }
    let modules = || stack.entries.iter().filter_map(|entry| Some((entry, entry.module()?)));
    if modules().next().is_none() {
        return Err(format!("{file}: no auth line, {WITHOUT}"));
    }
    for (Entry { place, .. }, arguments) in
        modules().filter(|(_, name)| name.contains(MODULE)).map(|(entry, _)| (entry, entry.arguments()))
    {
        let arguments: Vec<_> =
            arguments.iter().flat_map(|argument| CString::new(argument.as_str())).collect();
        let (options, usable) = Options::parse(&arguments);
        usable.map_err(|error| format!("{place}: {error}"))?;
        if options.conf.as_deref() != conf {
            let shown = |conf: Option<&Path>| conf.map_or("none".into(), |conf| conf.display().to_string());
            return Err(format!(
                "{place}: {MODULE} has another conf= ({}) than the --config of this broker ({}); expected the same",
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

    /// What is said of a service with this text, beside a file `part` with that one.
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
    fn another_conf_is_found_wherever_it_stands() {
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
                // Also beside lines that have the right one.
                let both = format!("{}{service}", conf.map_or(none.clone(), |_| same.clone()));
                assert!(judged(&both, part, conf).is_err(), "{both}");
            }
        }
        for service in [
            "auth required \\\n pam_backupcodes.so \\\n nullok conf=/b\n",
            "auth [success=1 default=ignore] pam_backupcodes.so [conf=/b]\n",
            "-auth\trequired\tpam_backupcodes.so\tconf=/b\n",
            "AUTH REQUIRED /usr/lib/security/pam_backupcodes.so conf=/b # conf=/a\n",
            // The last one counts.
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
    fn a_stack_that_libpam_does_not_read_as_it_stands_is_refused() {
        let good = "auth required pam_unix.so\n";
        for (service, found) in [
            ("auth include no-such\n", "\"no-such\" cannot be included"),
            ("@include folder\n", "\"folder\" cannot be included"),
            ("auth substack\n", "\"\" cannot be included"),
            ("auth include backupcodes\n", "\"backupcodes\" cannot be included"),
            ("@include part\n@include /no/such\n", "\"/no/such\" cannot be included"),
            ("oath required pam_unix.so\n", "/etc/pam.d/backupcodes:2: libpam loses this line"),
            ("auth required\n", "/etc/pam.d/backupcodes:2: libpam loses this line"),
            ("auth\n", "/etc/pam.d/backupcodes:2: libpam loses this line"),
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
