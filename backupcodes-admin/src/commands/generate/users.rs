//! The users that `generate` makes sets for.

use std::io::{self, BufRead};

use nix::unistd::Group;

use crate::accounts::{entries, that_log_in};
use crate::cli::Generate;
use crate::failure::Failure;
use crate::output;

/// The names that the command line asks for, in its order.
pub(super) fn asked_for(arguments: &Generate) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for user in &arguments.users {
        if user == "-" { names.extend(of_input()?) } else { names.push(user.clone()) }
    }
    for group in &arguments.group {
        names.extend(members(group)?);
    }
    if arguments.all {
        names.extend(that_log_in()?);
    }
    Ok(names)
}

/// The accounts that the group lists, and those with it as their own group (if the database lists accounts).
fn members(group: &str) -> Result<Vec<String>, Failure> {
    let found = Group::from_name(group).map_err(Failure::Groups)?;
    let found = found.ok_or_else(|| Failure::NoGroup { group: group.into() })?;
    let mut names = found.mem;
    let gid = found.gid.as_raw();
    match entries() {
        Ok(all) => names.extend(all.into_iter().filter(|entry| entry.gid == gid).map(|entry| entry.name)),
        // A directory service tells of a group all the same.
        Err(_) if !names.is_empty() => output::complain(&format_args!(
            "the user database does not list its accounts: accounts with {group} as their own group that the group does not list \
             are left out; give their names"
        )),
        Err(unlisted) => return Err(unlisted.into()),
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn of_input() -> Result<Vec<String>, Failure> {
    let lines: io::Result<Vec<_>> = io::stdin().lock().lines().collect();
    let lines = lines.map_err(Failure::Input)?;
    Ok(lines.iter().map(|line| line.trim()).filter(|name| !name.is_empty()).map(String::from).collect())
}
