//! What a manual page documents, and whether a command line is what its page documents.

mod page;

use std::collections::BTreeSet;

use clap::{Arg, Command};

pub use self::page::{Entry, entries, examples, tags};

/// Sees that every command and option that is not hidden stands in the page where it belongs, with its values, and no other
/// does.
pub fn assert_documented(mut root: Command, page: &str) {
    root.build();
    let entries = entries(page);
    let mut expected = BTreeSet::new();
    for argument in shown(&root).filter(|argument| !argument.is_positional()) {
        expected.insert(("OPTIONS".into(), String::new(), Some(tag(argument))));
    }
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        // What every command takes stands among the options of the program.
        let of_root =
            |argument: &&Arg| root.get_arguments().all(|of_root| of_root.get_id() != argument.get_id());
        let own: Vec<_> = shown(command).filter(of_root).collect();
        let usage = usage(command, &own);
        for argument in &own {
            let tag = Some(tag(argument)).filter(|_| !argument.is_positional());
            assert_values(
                argument,
                entries.iter().find(|entry| entry.subsection == usage && entry.tag == tag),
            );
            if tag.is_some() {
                expected.insert(("COMMANDS".into(), usage.clone(), tag));
            }
        }
        expected.insert(("COMMANDS".into(), usage, None));
    }
    let here = entries.into_iter().filter(|entry| match &*entry.section {
        "OPTIONS" => entry.tag.is_some(),
        "COMMANDS" => !entry.subsection.is_empty(),
        _ => false,
    });
    let documented: BTreeSet<_> =
        here.map(|Entry { section, subsection, tag, .. }| (section, subsection, tag)).collect();
    let undocumented: Vec<_> = expected.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&expected).collect();
    assert!(
        undocumented.is_empty() && unknown.is_empty(),
        "not in the page: {undocumented:#?}\nonly in the page: {unknown:#?}"
    );
}

fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| !argument.is_hide_set())
}

/// `--print [PRINTER]` or `-h, --help`.
fn tag(argument: &Arg) -> String {
    let mut tag = argument.get_short().map_or_else(String::new, |short| format!("-{short}, "));
    tag.push_str(&format!("--{}", argument.get_long().unwrap_or_default()));
    for value in
        argument.get_value_names().filter(|_| argument.get_action().takes_values()).unwrap_or_default()
    {
        let is_needed = argument.get_num_args().is_none_or(|range| range.min_values() > 0);
        tag.push_str(&if is_needed { format!(" {value}") } else { format!(" [{value}]") });
    }
    tag
}

/// The heading of a command: `email [OPTION]... USER [ADDRESS]...`.
fn usage(command: &Command, arguments: &[&Arg]) -> String {
    let mut usage = command.get_name().to_owned();
    if arguments.iter().any(|argument| !argument.is_positional()) {
        usage.push_str(" [OPTION]...");
    }
    for argument in arguments.iter().filter(|argument| argument.is_positional()) {
        let value = argument.get_value_names().unwrap_or_default()[0].as_str();
        usage.push_str(&if argument.is_required_set() { format!(" {value}") } else { format!(" [{value}]") });
        if argument.get_num_args().is_some_and(|range| range.max_values() > 1) {
            usage.push_str("...");
        }
    }
    if command.has_subcommands() {
        usage.push_str(" [COMMAND]");
    }
    usage
}

/// Sees that each value that an argument can have is named, and the one that it has by default.
fn assert_values(argument: &Arg, entry: Option<&Entry>) {
    // Where it is missing is said with all else that is.
    let Some(Entry { text, .. }) = entry.filter(|_| argument.get_action().takes_values()) else { return };
    let is_word = |c: char| c.is_alphanumeric() || c == '-';
    for value in argument.get_possible_values() {
        let value = value.get_name();
        assert!(text.split(|c| !is_word(c)).any(|word| word == value), "{value} is not told of in: {text}");
    }
    for value in argument.get_default_values() {
        let value = value.to_string_lossy();
        assert!(
            text.contains(&format!("{value}, the default")),
            "{value} is not said to be the default: {text}"
        );
    }
}
