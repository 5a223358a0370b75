//! The owner of a set: the account that it was made for may have another name or uid by now, or be gone.

use backupcodes_core::account::{Account, AccountError};
use backupcodes_core::set::Label;
use backupcodes_core::store::Store;

use crate::accounts::Accounts;

/// What became of the account that a set was made for.
pub(crate) enum Owner {
    /// It logs in with the set.
    Lives(Account),
    /// Its uid has another name, as this account has.
    Renamed(Account),
    /// Its name has another uid, as this account has.
    OtherUid(Account),
    /// Neither its name nor its uid has an account.
    Gone,
    /// The set stands under another name than its user's, which this account may have.
    Misfiled(Option<Account>),
}

impl Owner {
    /// The owner of the set with this label, which stands under this name.
    pub(crate) fn of(accounts: &Accounts, name: &str, label: &Label) -> Result<Self, AccountError> {
        let is_misfiled = label.user != name;
        let is_own = |account: &Account| !is_misfiled && label.judge_owner(account).is_ok();
        if let Some(account) = accounts.find(name)?.filter(is_own) {
            return Ok(Self::Lives(account));
        }
        // A login uses what the database says of this one name.
        Ok(match Account::by_name(name)? {
            named if is_misfiled => Self::Misfiled(named),
            Some(account) if is_own(&account) => Self::Lives(account),
            Some(account) if account.uid != label.uid => Self::OtherUid(account),
            // A directory service that gives the long name for the short one.
            Some(account) => Self::Renamed(account),
            None => Account::by_uid(label.uid)?.map_or(Self::Gone, Self::Renamed),
        })
    }
}

/// Whether the account has a set of its own, under its own name.
pub(crate) fn has_own_set(store: &impl Store, account: &Account) -> bool {
    store.read(&account.name).is_ok_and(|set| set.is_some_and(|set| set.label.judge_owner(account).is_ok()))
}

/// What became of the account that a set was made for, by the account that has its name or its uid now, and what to do.
pub(crate) fn what_became_of(store: &impl Store, user: &str, uid: u32, now: &Account) -> String {
    let Account { name, uid: other } = now;
    if *other == uid && has_own_set(store, now) {
        format!(
            "its uid {uid} belongs to {name}, who has another set; to remove this one: backupcodes-admin revoke {user}"
        )
    } else if *other == uid {
        format!(
            "its uid {uid} belongs to {name}; if {user} was renamed: backupcodes-admin rename {user} {name}; \
             if {name} is another person: backupcodes-admin revoke {user}"
        )
    } else {
        format!(
            "it was made for uid {uid}, and the account has uid {other}; \
             for new codes: backupcodes-admin generate {user}; for none: backupcodes-admin revoke {user}"
        )
    }
}
