//! A set under another name than its user's: a copy, or a file that somebody renamed. Nobody can log in with it, because the user in it
//! differs from its name. A copy that gets the right name back makes spent codes valid again.

use std::path::Path;

use backupcodes_core::account::Account;
use backupcodes_core::file_name::escaped;
use backupcodes_core::set::Label;

pub(crate) struct Misfiled {
    pub(crate) file: String,
    /// Whether it locks somebody out.
    pub(crate) is_error: bool,
    pub(crate) message: String,
    pub(crate) remedy: String,
}

impl Misfiled {
    /// Looks at the set with this label under this name, which the account may have.
    pub(crate) fn look(directory: &Path, name: &str, account: Option<&Account>, label: &Label) -> Self {
        let Label { set, user, uid, .. } = label;
        let path = |name: &str| directory.join(escaped(name, usize::MAX) + ".toml");
        let (file, own) = (path(name), path(user));
        let is_only_one = !own.exists();
        let (file, own) = (file.display().to_string(), own.display());
        let beside = if is_only_one { String::new() } else { format!(", beside {own}") };
        let found = format!("set {set} of {user} under the name {name}{beside}");
        // The database may have another name for this one: then nobody logs in with it.
        let account = account.filter(|account| account.name == name);
        let consequence = match account {
            Some(_) => format!("every code of {name} is refused"),
            None => "nobody can use it, and its notices are delivered".into(),
        };
        let has_owner = || {
            Account::by_name(user)
                .is_ok_and(|owner| owner.is_some_and(|owner| label.judge_owner(&owner).is_ok()))
        };
        let remedy = match account {
            // As an interrupted rename leaves it.
            Some(account) if is_only_one && account.uid == *uid => {
                format!("backupcodes-admin rename {user} {name}")
            }
            _ if is_only_one && has_owner() => format!(
                "if nobody has logged in since, move it back: mv -n '{file}' '{own}'; else: backupcodes-admin generate {user}"
            ),
            Some(_) => format!("backupcodes-admin generate {name}"),
            None => format!("rm '{file}'"),
        };
        Self { file, is_error: account.is_some(), message: format!("{found}: {consequence}"), remedy }
    }
}
