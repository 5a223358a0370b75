//! What a set says of itself beside its codes.

use rand::TryCryptoRng;

use crate::account::Account;
use crate::clock::Time;
use crate::explanation::Explanation;

/// What is known of a set beside its codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Eight random hexadecimal digits, printed on the sheet, so that sheets can be told apart.
    pub set: String,
    /// The account's name.
    pub user: String,
    /// The account's uid when the set was made: an account re-created under the name inherits nothing.
    pub uid: u32,
    /// When the set was made.
    pub created: Time,
    /// Where notices go.
    pub email: Vec<String>,
}

impl Label {
    /// A label with a random set id.
    ///
    /// # Errors
    /// The random number generator's own.
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
    /// [`Stale`].
    pub fn judge_owner(&self, account: &Account) -> Result<(), Stale> {
        if (&self.user, self.uid) == (&account.name, account.uid) {
            return Ok(());
        }
        let Self { set, user, uid, .. } = self.clone();
        Err(Stale { set, user, uid, account: account.clone() })
    }
}

/// The set was made for another account than the one that has its name now.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.explanation())]
pub struct Stale {
    /// The id of the set.
    pub set: String,
    /// The user in the file.
    pub user: String,
    /// The uid in the file.
    pub uid: u32,
    /// The account that was looked for.
    pub account: Account,
}

impl Stale {
    /// In the parts that its text has.
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
