use std::fs;

use super::*;
use crate::line::{Lines, lines, words};

fn words_of(text: &str) -> Vec<String> {
    words(text)
}

fn shown(stack: &Stack) -> Vec<String> {
    let shown = |entry: &Entry| {
        let name = match &entry.kind {
            Kind::Module { .. } => entry.module().unwrap().trim_end_matches(".so"),
            Kind::MustFail => "fails",
            Kind::Substack => "substack",
        };
        format!("{}{name}", "-".repeat(entry.level))
    };
    stack.entries.iter().map(shown).collect()
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn words_stand_between_blanks_or_in_brackets() {
    assert_eq!(
        words_of("auth\t[a=1  b] m.so  x[y [p=a \\] [b ]z\r"),
        ["auth", "a=1  b", "m.so", "x[y", "p=a ] [b ", "z\r"]
    );
    assert_eq!(words_of("[] [open \\x"), ["", "open \\x"]);
    assert_eq!(words_of(" \t"), [""; 0]);
}

#[test]
fn a_backslash_joins_what_follows_and_a_comment_ends_a_line() {
    let text = "a \\ \t\n\n# no\n  b # c \\\n#d \\\ne\\\r\nf\\\n";
    let Lines { lines: found, faults, is_whole } = lines(text);
    let found: Vec<_> = found.into_iter().map(|line| (line.number, line.text)).collect();
    assert_eq!(found, [(1, "a  b ".into()), (6, "e\\\r".into())]);
    assert_eq!(
        faults,
        [(1, Fault::Joins(Some((4, "b".into())))), (6, Fault::CarriageReturn), (7, Fault::Joins(None))]
    );
    assert!(!is_whole);
    assert!(lines("a \\\nb").is_whole);
}

#[test]
fn invisible_characters_are_part_of_a_word() {
    let faults = |text: &str| lines(text).faults;
    let text = "auth required pam_unix.so\r\n\r\n# no\r\nauth a b # c\r\n#d\rauth e\nauth f\rauth g\r\n\u{feff}auth\u{a0}h";
    let [last, lone] = [Fault::CarriageReturn, Fault::Invisible('\r')];
    assert_eq!(
        faults(text),
        [(1, last.clone()), (2, last), (5, lone.clone()), (6, lone), (7, Fault::Invisible('\u{feff}'))]
    );
    assert_eq!(
        faults("auth required a [x=\u{a0}\\]\u{a0}] b\u{200b}\n"),
        [(1, Fault::Invisible('\u{200b}'))]
    );
    assert_eq!(
        faults("auth required a [x=\u{a0}\r]\n# \u{a0}\n\t auth\tb \n"),
        [(1, Fault::Invisible('\r'))]
    );
}

#[test]
fn files_that_may_lead_to_a_module_are_examined() {
    let root = folder(&[
        ("etc/pam.d/a", "auth required pam_a.so\\\n@include\tb\r\n"),
        ("etc/pam.d/b", "auth [include] c\n\u{a0}auth SUBSTACK [/etc/pam.d/d]\n"),
        ("etc/pam.d/d", "auth required pam_x.so\r\n"),
        ("etc/pam.d/e", "@include e\n# pam_x.so\r\nauth required pam_y.so\r\n"),
        ("etc/pam.d/other", "@include a # pam_x.so\n"),
    ]);
    let faults = Files::below(root.path()).faults_around("pam_x.so");
    let mut places: Vec<_> = faults.iter().map(|(location, _)| location.to_string()).collect();
    places.sort_unstable();
    assert_eq!(places, ["/etc/pam.d/a:1", "/etc/pam.d/a:2", "/etc/pam.d/b:2", "/etc/pam.d/d:1"]);
}

#[test]
fn controls_are_read_as_libpam_reads_them() {
    let action = |control: &str, result| Control::parse(control).action(result);
    for (control, success, ignore, failure) in [
        ("required", Action::Ok, Action::Ignore, Action::Bad),
        ("Requisite", Action::Ok, Action::Ignore, Action::Die),
        ("sufficient", Action::Done, Action::Ignore, Action::Ignore),
        ("optional", Action::Ok, Action::Ignore, Action::Ignore),
        ("success=2 default=ignore", Action::Jump(2), Action::Ignore, Action::Ignore),
        ("default=die success = reset auth_err=bad", Action::Reset, Action::Die, Action::Bad),
        ("success=ok default=done default=die", Action::Ok, Action::Done, Action::Done),
        ("success=ok success=1", Action::Jump(1), Action::Bad, Action::Bad),
        ("requird", Action::Bad, Action::Bad, Action::Bad),
        ("success=ok default=0", Action::Bad, Action::Bad, Action::Bad),
        ("success=ok bogus=ok", Action::Bad, Action::Bad, Action::Bad),
    ] {
        let actions = ["success", "ignore", "auth_err"].map(|result| action(control, result));
        assert_eq!(actions, [success, ignore, failure], "{control}");
    }
    assert_eq!(action("sufficient", "new_authtok_reqd"), Action::Done);
}

#[test]
fn files_are_followed_as_libpam_follows_them() {
    let root = folder(&[
        (
            "etc/pam.d/a",
            "-AUTH required pam_a.so\nsession required pam_s.so\n@include b\nauth substack /x/c\nbogus\n",
        ),
        ("etc/pam.d/b", "auth [success=ok] /lib/pam_b.so [x y]\naccount required pam_n.so\n"),
        ("usr/lib/pam.d/b", "auth required pam_vendor.so\n"),
        ("x/c", "auth include d\naccount include gone\n"),
        ("usr/lib/pam.d/d", "auth required pam_d.so\nauth\nauth required\n"),
        ("etc/pam.d/a.dpkg-old", ""),
        ("etc/pam.d/e~", ""),
        ("etc/pam.d/other", "auth required pam_deny.so\n"),
        ("etc/pam.d/silent", "account required pam_permit.so\n"),
    ]);
    let files = Files::below(root.path());
    let stack = files.stack("a").unwrap();
    assert_eq!(shown(&stack), ["pam_a", "pam_b", "substack", "-pam_d", "-fails", "-fails", "fails"]);
    assert_eq!(stack.entries[1].arguments(), ["x y"]);
    assert_eq!(stack.entries[3].location.to_string(), "/usr/lib/pam.d/d:1");
    assert!(!stack.is_refused && stack.missing.is_empty());
    assert_eq!(files.services(), ["a", "d", "other", "silent"], "b is a part");
    for service in ["silent", "gone"] {
        assert_eq!(shown(&files.effective(service)), ["pam_deny"], "{service} takes other");
    }
    assert_eq!(shown(&files.effective("b")), ["pam_b"]);
}

#[test]
fn a_file_that_cannot_be_included_counts_as_missing_and_ends_the_stack() {
    let root = folder(&[
        ("etc/pam.d/typed", "auth include gone\nauth required pam_a.so\n"),
        ("etc/pam.d/all", "auth required pam_a.so\n@include gone\n"),
        ("etc/pam.d/itself", "auth include itself\nauth include itself\n"),
        ("etc/pam.d/nameless", "auth include\n"),
        ("etc/pam.d/torn", "auth required pam_a.so\nauth required pam_b.so \\\n"),
        ("etc/pam.d/over", "auth include torn\n"),
    ]);
    let files = Files::below(root.path());
    let stack = |name| files.stack(name).unwrap();
    let first_missing = |stack: &Stack| stack.missing[0].0.to_string();
    assert_eq!(shown(&stack("typed")), ["fails", "pam_a"]);
    assert_eq!(first_missing(&stack("typed")), "/etc/pam.d/typed:1");
    assert!(stack("all").is_refused && first_missing(&stack("all")) == "/etc/pam.d/all:2");
    assert_eq!(first_missing(&stack("itself")), "/etc/pam.d/itself:1");
    assert_eq!(first_missing(&stack("nameless")), "/etc/pam.d/nameless:1");
    assert!(stack("torn").is_refused);
    assert_eq!(shown(&stack("torn")), ["pam_a"]);
    assert_eq!(shown(&stack("over")), ["pam_a", "fails"]);
}
