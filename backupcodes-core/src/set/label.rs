//! The data of a set beside its codes.

use rand::TryCryptoRng;

use crate::account::Account;
use crate::clock::Time;
use crate::explanation::Explanation;

/// The data of a set beside its codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The id: eight random hexadecimal digits, printed on the sheet to tell sheets apart.
    pub set: String,
    /// The account's name.
    pub user: String,
    /// The account's uid when the set was made: a re-created account of the same name does not inherit the set.
    pub uid: u32,
    /// When the set was made.
    pub created: Time,
    /// The addresses for notices.
    pub email: Vec<String>,
}

impl Label {
    /// A label with a random set id.
    ///
    /// # Errors
    /// The error of the random number generator.
    pub fn new<R: TryCryptoRng>(
        account: &Account,
        created: Time,
        email: Vec<String>,
        rng: &mut R,
    ) -> Result<Self, R::Error> {
        let set = format!("{:08x}", rng.try_next_u32()?);
        Ok(Self { set, user: account.name.clone(), uid: account.uid, created, email })
    }

    /// Whether the set is this account's, by name and uid.
    ///
    /// # Errors
    /// [`OwnerMismatch`].
    pub fn judge_owner(&self, account: &Account) -> Result<(), OwnerMismatch> {
        if (&self.user, self.uid) == (&account.name, account.uid) {
            return Ok(());
        }
        let Self { set, user, uid, .. } = self.clone();
        Err(OwnerMismatch { set, user, uid, account: account.clone() })
    }
}

/// The set was made for another account than the one that has the name now.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.explanation())]
pub struct OwnerMismatch {
    /// The id of the set.
    pub set: String,
    /// The user in the set.
    pub user: String,
    /// The uid in the set.
    pub uid: u32,
    /// The account that has the name now.
    pub account: Account,
}

impl OwnerMismatch {
    /// The error in three parts.
    #[must_use]
    pub fn explanation(&self) -> Explanation {
        let Self { set, user, uid, account: Account { name, uid: account_uid } } = self;
        Explanation::new(
            name,
            format!(
                "set {set} was made for {user} with uid {uid}; expected {name} with uid {account_uid}, as the account is now"
            ),
            format!("if the account was created again, make a new set: backupcodes-admin generate {name}"),
        )
    }
}
