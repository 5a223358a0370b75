//! Argon2id hashes of codes, stored as PHC strings: `$argon2id$v=19$m=19456,t=2,p=1$<salt>$<tag>`.
//!
//! The memory of a run is a parameter ([`Memory`]): a login takes fresh huge pages, a bulk run reuses one buffer for all codes.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64ct::{Base64Unpadded, Encoding};
use rand::TryCryptoRng;
use subtle::ConstantTimeEq;

use crate::code::Code;

/// Bytes of a salt: RFC 9106, section 3.1, recommends 16.
const SALT: usize = 16;
/// Bytes of a tag: RFC 9106, section 4, recommends 32.
const TAG: usize = 32;

/// The cost of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    // The configuration sets them one by one, and checks them before anyone else sees them.
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
    pub(crate) lanes: u32,
}

/// A cost outside the limits of Argon2id (RFC 9106, section 3.1) or of a login.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "memory_kib {memory_kib}, passes {passes}, lanes {lanes}; expected lanes 1..=64, passes 1..=1000, memory_kib 8 × lanes..=4194304",
    memory_kib = .0.memory_kib, passes = .0.passes, lanes = .0.lanes
)]
pub struct BadCost(Cost);

impl Cost {
    /// 19 MiB, 2 passes, 1 lane: the OWASP Password Storage Cheat Sheet's first choice for Argon2id.
    pub const DEFAULT: Self = Self { memory_kib: 19_456, passes: 2, lanes: 1 };

    /// A cost of `memory_kib` KiB.
    ///
    /// # Errors
    /// [`BadCost`] names the limits.
    pub const fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, BadCost> {
        Self { memory_kib, passes, lanes }.check()
    }

    /// This cost, if it is within the limits.
    pub(crate) const fn check(self) -> Result<Self, BadCost> {
        let Self { memory_kib, passes, lanes } = self;
        let fits = lanes >= 1 && lanes <= 64 && passes >= 1 && passes <= 1000 && memory_kib <= 4 << 20;
        if fits && memory_kib >= lanes.saturating_mul(8) { Ok(self) } else { Err(BadCost(self)) }
    }
}

/// The source of a run's memory.
pub trait Memory {
    /// `count` blocks of 1 KiB with any content.
    ///
    /// # Errors
    /// [`OutOfMemory`]: a failed allocation is an error, never an abort.
    fn blocks(&mut self, count: usize) -> Result<&mut [Block], OutOfMemory>;
}

/// The memory of a hash cannot be allocated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{kib} KiB of memory for one hash cannot be allocated; free memory, or lower hash.memory_kib and make new sets"
)]
pub struct OutOfMemory {
    /// The requested size.
    pub kib: usize,
}

/// Memory from the heap, reused by each run.
#[derive(Default)]
pub struct HeapMemory(Vec<Block>);

impl Memory for HeapMemory {
    fn blocks(&mut self, count: usize) -> Result<&mut [Block], OutOfMemory> {
        let missing = count.saturating_sub(self.0.len());
        self.0.try_reserve_exact(missing).map_err(|_| OutOfMemory { kib: count })?;
        if missing > 0 {
            self.0.resize(count, Block::new());
        }
        self.0.get_mut(..count).ok_or(OutOfMemory { kib: count })
    }
}

/// A hash cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// No memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// Argon2 rejects its parameters.
    #[error("Argon2id: {0}")]
    Argon2(argon2::Error),
}

/// The stored hash of one code.
#[derive(Clone, PartialEq, Eq)]
pub struct CodeHash {
    cost: Cost,
    salt: [u8; SALT],
    tag: [u8; TAG],
}

impl CodeHash {
    /// Hashes `code` with a new salt.
    ///
    /// # Errors
    /// No random salt, or a [`HashError`].
    pub fn create<R: TryCryptoRng>(
        code: &Code,
        cost: Cost,
        rng: &mut R,
        memory: &mut impl Memory,
    ) -> Result<Self, CreateError<R::Error>> {
        let mut salt = [0; SALT];
        rng.try_fill_bytes(&mut salt).map_err(CreateError::Random)?;
        Ok(Self { cost, salt, tag: run(code.hash_input(), cost, &salt, memory)? })
    }

    /// A hash that matches no code, so that an attempt without a hash to compare costs the same.
    #[must_use]
    pub const fn decoy(cost: Cost) -> Self {
        Self { cost, salt: [0; SALT], tag: [0; TAG] }
    }

    /// The cost of a run with this hash's parameters.
    #[must_use]
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether this is the hash of `secret`: one run, compared in constant time.
    ///
    /// # Errors
    /// [`HashError`] if the run fails.
    pub fn matches(&self, secret: &[u8], memory: &mut (impl Memory + ?Sized)) -> Result<bool, HashError> {
        Ok(run(secret, self.cost, &self.salt, memory)?.ct_eq(&self.tag).into())
    }

    /// Reads a PHC string, in exactly the form that [`CodeHash::phc`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('$').skip(3);
        let (costs, salt, tag) = (fields.next()?, fields.next()?, fields.next()?);
        let mut numbers = costs.split(',').map(|number| number.get(2..).unwrap_or_default().parse().ok());
        let (memory_kib, passes, lanes) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let mut hash = Self::decoy(Cost::new(memory_kib, passes, lanes).ok()?);
        Base64Unpadded::decode(salt, &mut hash.salt).ok().filter(|salt| salt.len() == SALT)?;
        Base64Unpadded::decode(tag, &mut hash.tag).ok().filter(|tag| tag.len() == TAG)?;
        // A hash has only one form: the decoder of salt and tag is strict.
        (text.starts_with(&hash.head()) && fields.next().is_none()).then_some(hash)
    }

    /// The PHC string. Its width depends only on the cost, so a spent record can overwrite it.
    #[must_use]
    pub fn phc(&self) -> String {
        let [mut salt, mut tag] = [[0; 64]; 2];
        let salt = Base64Unpadded::encode(&self.salt, &mut salt).unwrap_or_default();
        let tag = Base64Unpadded::encode(&self.tag, &mut tag).unwrap_or_default();
        format!("{}{salt}${tag}", self.head())
    }

    /// Everything before the salt.
    fn head(&self) -> String {
        let Cost { memory_kib, passes, lanes } = self.cost;
        format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}$")
    }
}

/// A new hash cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError<R> {
    /// The kernel gave no random bytes.
    #[error("no random bytes from the kernel: {0}")]
    Random(R),
    /// The run failed.
    #[error(transparent)]
    Hash(#[from] HashError),
}

fn run(
    secret: &[u8],
    cost: Cost,
    salt: &[u8; SALT],
    memory: &mut (impl Memory + ?Sized),
) -> Result<[u8; TAG], HashError> {
    let mut tag = [0; TAG];
    let Cost { memory_kib, passes, lanes } = cost;
    let params = Params::new(memory_kib, passes, lanes, Some(TAG)).map_err(HashError::Argon2)?;
    // RFC 9106: a multiple of four for each lane.
    let blocks = memory.blocks(params.block_count())?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(secret, salt, &mut tag, blocks)
        .map_err(HashError::Argon2)?;
    Ok(tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::CodeNumber;
    use rand::rngs::SysRng;

    fn code() -> Code {
        Code::generate(CodeNumber::new(1).unwrap(), 13, &mut SysRng).unwrap()
    }

    #[test]
    fn a_hash_matches_its_code_and_no_other_after_a_round_trip() {
        let (code, mut memory) = (code(), HeapMemory::default());
        let cost = Cost::new(64, 2, 2).unwrap();
        let hash = CodeHash::create(&code, cost, &mut SysRng, &mut memory).unwrap();
        let read = CodeHash::parse(&hash.phc()).unwrap();
        assert!(read.matches(code.hash_input(), &mut memory).unwrap());
        assert!(!read.matches(self::code().hash_input(), &mut memory).unwrap());
        assert_ne!(hash.phc(), CodeHash::create(&code, cost, &mut SysRng, &mut memory).unwrap().phc());
    }

    #[test]
    fn every_bit_of_the_tag_counts() {
        let (code, mut memory) = (code(), HeapMemory::default());
        let hash = CodeHash::create(&code, Cost::new(8, 1, 1).unwrap(), &mut SysRng, &mut memory).unwrap();
        for bit in 0..TAG * 8 {
            let mut other = hash.clone();
            other.tag[bit / 8] ^= 1 << (bit % 8);
            assert!(!other.matches(code.hash_input(), &mut memory).unwrap());
        }
    }

    /// The tag is from the command line of the reference implementation:
    /// `printf 1ABCDEFGHJKMNPQ | argon2 somesaltsomesalt -id -t 2 -k 256 -p 1 -l 32 -e`
    #[test]
    fn the_reference_implementation_agrees() {
        let hash = CodeHash::parse(REFERENCE).unwrap();
        assert!(hash.matches(b"1ABCDEFGHJKMNPQ", &mut HeapMemory::default()).unwrap());
    }
    const REFERENCE: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$2FJM/FI0Kn3WvhQkEyL4Iary56SNbFjy2nHot5L/hPw";

    #[test]
    fn a_phc_string_has_one_form() {
        let good = CodeHash::decoy(Cost::DEFAULT).phc();
        assert!(CodeHash::parse(&good).is_some());
        assert_eq!(good.len(), 97);
        for bad in [
            good.replace("argon2id", "argon2i"),
            good.replace("v=19", "v=16"),
            good.replace("m=19456", "m=019456"),
            good.replace("m=19456", "m=+19456"),
            good.replace("m=19456", "m=7"),
            good.replace("m=19456", "m=99999999999"),
            good.replace("m=19456,t=2", "t=2,m=19456"),
            good.replace(",p=1", ""),
            good.replace(",p=1", ",p=1,x=1"),
            format!("{good}$"),
            format!("{good} "),
            good[..96].to_string(),
            format!("{}B", &good[..96]), // unused bits after the last byte of the tag
            format!("{}B{}", &good[..52], &good[53..]), // and of the salt
            String::new(),
            "$$$$$$".into(),
        ] {
            assert!(CodeHash::parse(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn missing_memory_is_an_error() {
        struct None;
        impl Memory for None {
            fn blocks(&mut self, count: usize) -> Result<&mut [Block], OutOfMemory> {
                Err(OutOfMemory { kib: count })
            }
        }
        let outcome = CodeHash::decoy(Cost::DEFAULT).matches(b"x", &mut None);
        assert!(matches!(outcome, Err(HashError::Memory(OutOfMemory { kib: 19_456 }))));
        assert!(HeapMemory::default().blocks(usize::MAX / 2).is_err());
    }

    #[test]
    fn heap_memory_is_reused_and_cut_to_size() {
        let mut memory = HeapMemory::default();
        assert_eq!(memory.blocks(16).unwrap().len(), 16);
        assert_eq!(memory.blocks(8).unwrap().len(), 8);
    }

    #[test]
    fn costs_have_bounds() {
        for (memory, passes, lanes) in
            [(7, 1, 1), (8, 0, 1), (8, 1, 0), (15, 1, 2), (8, 1001, 1), (5 << 20, 1, 1)]
        {
            assert!(Cost::new(memory, passes, lanes).is_err());
        }
        assert!(Cost::new(8, 1, 1).is_ok());
    }
}
