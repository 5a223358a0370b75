//! Who made a set. The permissions of etcd prove it too, but some versions let each of their users do everything: so a set is signed
//! with the key of the administrators, and each host checks that.

use std::fmt::Display;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::ring::{default_provider, sign};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor, UnixTime};
use rustls::sign::SigningKey;
use serde::{Deserialize, Serialize};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::der::Decode;

use crate::etcd::Tls;

/// The common name of the certificate that signs sets, and its user in etcd.
pub(crate) const ADMIN: &str = "backupcodes-admin";

/// Authorities between that of the configuration and a certificate.
const MOST_BETWEEN: usize = 4;
/// As long as the label of a set.
const DECOY: &[u8] = &[b'x'; 300];

/// The authority of the configuration, and this host's certificate of it.
pub(crate) struct Authority {
    anchors: Vec<TrustAnchor<'static>>,
    signer: Signer,
    algorithms: WebPkiSupportedAlgorithms,
    /// By this host's key, whoever it is.
    decoy: Signature,
}

/// This host.
struct Signer {
    /// PEM: its certificate, and what is between that and the authority.
    chain: String,
    key: Arc<dyn SigningKey>,
}

/// What proves that an administrator has written something.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Signature {
    /// PEM: the certificate of the key, and what is between it and the authority.
    certificate: String,
    /// The number of the algorithm in TLS.
    scheme: u16,
    /// In Base64.
    value: String,
}

impl Authority {
    /// # Errors
    /// A file is no PEM, or its algorithm is not known.
    pub(crate) fn new(tls: &Tls) -> Result<Self, String> {
        let authorities =
            CertificateDer::pem_slice_iter(&tls.ca).collect::<Result<Vec<_>, _>>().map_err(text)?;
        let anchor = |one| anchor_from_trusted_cert(one).map(|anchor| anchor.to_owned());
        let key = PrivateKeyDer::from_pem_slice(&tls.key).map_err(text)?;
        let signer = Signer {
            chain: String::from_utf8(tls.certificate.clone()).map_err(text)?,
            key: sign::any_supported_type(&key).map_err(text)?,
        };
        let algorithms = default_provider().signature_verification_algorithms;
        Ok(Self {
            anchors: authorities.iter().map(anchor).collect::<Result<_, _>>().map_err(text)?,
            decoy: signer.sign(DECOY, &algorithms)?,
            signer,
            algorithms,
        })
    }

    /// Signs a message so that all hosts see that an administrator has written it.
    ///
    /// # Errors
    /// No host would believe it: the certificate is not the administrators'.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Signature, String> {
        let signature = self.signer.sign(message, &self.algorithms)?;
        self.verify(message, &signature)?;
        Ok(signature)
    }

    /// Takes the time of [`verify`](Self::verify), so that a reply does not tell by its time that a user has no set.
    pub(crate) fn verify_nothing(&self) {
        let _ = self.verify(DECOY, &self.decoy);
    }

    /// # Errors
    /// No administrator has signed the message.
    pub(crate) fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), String> {
        let Signature { certificate, scheme, value } = signature;
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(text)?;
        let (leaf, between) = chain.split_first().ok_or("no certificate")?;
        if between.len() > MOST_BETWEEN {
            return Err(format!("a chain of {} certificates", chain.len()));
        }
        let details = x509_cert::Certificate::from_der(leaf).map_err(text)?;
        let details = details.tbs_certificate();
        // What was signed stays good when the certificate ends.
        let then = UnixTime::since_unix_epoch(details.validity().not_before.to_unix_duration());
        let leaf = EndEntityCert::try_from(leaf).map_err(text)?;
        let usage = KeyUsage::client_auth();
        leaf.verify_for_usage(self.algorithms.all, &self.anchors, between, then, usage, None, None)
            .map_err(text)?;
        let value = Base64::decode_vec(value).map_err(text)?;
        let of_scheme =
            self.algorithms.mapping.iter().filter(|(one, _)| *one == SignatureScheme::from(*scheme));
        let is_signed = of_scheme
            .flat_map(|(_, algorithms)| *algorithms)
            .any(|algorithm| leaf.verify_signature(*algorithm, message, &value).is_ok());
        if !is_signed {
            return Err("another text was signed".into());
        }
        let name = details.subject().common_name().map_err(text)?.map(|name| name.value().into_owned());
        if name.as_deref() != Some(ADMIN) {
            return Err(format!("the certificate is of {}; expected {ADMIN}", name.unwrap_or_default()));
        }
        Ok(())
    }
}

impl Signer {
    fn sign(&self, message: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> Result<Signature, String> {
        let schemes: Vec<_> = algorithms.mapping.iter().map(|(scheme, _)| *scheme).collect();
        let signer = self.key.choose_scheme(&schemes).ok_or("its key cannot sign")?;
        let value = Base64::encode_string(&signer.sign(message).map_err(text)?);
        Ok(Signature { certificate: self.chain.clone(), scheme: signer.scheme().into(), value })
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        date_time_ymd,
    };

    use super::*;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    const MESSAGE: &[u8] = b"a set";

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        params
    }

    fn authority_params(name: &str) -> CertificateParams {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn new_authority(name: &str) -> Issuer {
        Issuer::self_signed(authority_params(name), KeyPair::generate().unwrap()).unwrap()
    }

    /// What a host has whose `fleet.ca` has these authorities, and whose certificate of the issuer is as `change` makes it.
    fn host(
        authorities: &[&Issuer],
        issuer: &Issuer,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Authority {
        let mut params = params(ADMIN);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        let tls = Tls {
            ca: authorities.iter().map(|authority| authority.pem()).collect::<String>().into(),
            certificate: certificate.pem().into(),
            key: key.serialize_pem().into(),
        };
        Authority::new(&tls).unwrap()
    }

    /// Signs although no host may believe it.
    fn forge(by: &Authority) -> Signature {
        by.signer.sign(MESSAGE, &by.algorithms).unwrap()
    }

    #[test]
    fn what_an_administrator_has_signed_is_proven_and_nothing_else() {
        let ca = new_authority("ca");
        let (admin, other) = (host(&[&ca], &ca, |_| ()), host(&[&ca], &ca, |_| ()));
        let signature = admin.sign(MESSAGE).unwrap();
        assert_eq!(other.verify(MESSAGE, &signature), Ok(()));
        assert!(other.verify(b"another set", &signature).is_err());
        let bad: [fn(&mut Signature); 4] = [
            |signature| signature.value.replace_range(..8, "AAAAAAAA"),
            |signature| signature.value.clear(),
            |signature| signature.scheme = SignatureScheme::ECDSA_NISTP384_SHA384.into(),
            |signature| signature.certificate.clear(),
        ];
        for change in bad {
            let mut signature = signature.clone();
            change(&mut signature);
            assert!(other.verify(MESSAGE, &signature).is_err());
        }
        // The key of another one.
        let stolen = Signature { certificate: signature.certificate, ..forge(&host(&[&ca], &ca, |_| ())) };
        assert!(other.verify(MESSAGE, &stolen).is_err());
    }

    #[test]
    fn only_the_certificate_of_the_administrators_signs() {
        let (ca, foreign) = (new_authority("ca"), new_authority("ca"));
        let named = |name: &'static str| {
            move |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, name)
        };
        let none =
            |params: &mut CertificateParams| params.distinguished_name = rcgen::DistinguishedName::new();
        let of_a_server = |params: &mut CertificateParams| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        };
        let admin = host(&[&ca], &ca, |_| ());
        for other in [
            host(&[&ca], &ca, named("host1")),
            host(&[&ca], &ca, named("backupcodes-admin2")),
            host(&[&ca], &ca, none),
            host(&[&ca], &ca, of_a_server),
            host(&[&ca], &foreign, |_| ()),
        ] {
            assert!(other.sign(MESSAGE).is_err());
            assert!(admin.verify(MESSAGE, &forge(&other)).is_err());
        }
    }

    #[test]
    fn what_was_signed_stays_good_when_the_certificate_has_expired() {
        let ca = new_authority("ca");
        let expired = host(&[&ca], &ca, |params| params.not_after = date_time_ymd(2026, 1, 2));
        assert_eq!(host(&[&ca], &ca, |_| ()).verify(MESSAGE, &forge(&expired)), Ok(()));
    }

    #[test]
    fn two_authorities_count_until_one_is_removed() {
        let (old, new) = (new_authority("old"), new_authority("new"));
        let signed = host(&[&old], &old, |_| ()).sign(MESSAGE).unwrap();
        let signed_by_new = host(&[&old, &new], &new, |_| ()).sign(MESSAGE).unwrap();
        for (authorities, is_old_good, is_new_good) in
            [(&[&old][..], true, false), (&[&old, &new], true, true), (&[&new], false, true)]
        {
            let host = host(authorities, authorities[0], |_| ());
            assert_eq!(host.verify(MESSAGE, &signed).is_ok(), is_old_good);
            assert_eq!(host.verify(MESSAGE, &signed_by_new).is_ok(), is_new_good);
        }
    }

    #[test]
    fn an_authority_between_is_in_the_file_of_the_certificate() {
        let ca = new_authority("ca");
        let between =
            Issuer::signed_by(authority_params("between"), KeyPair::generate().unwrap(), &ca).unwrap();
        let mut admin = host(&[&ca], &between, |_| ());
        assert!(admin.sign(MESSAGE).is_err(), "nobody knows it");
        admin.signer.chain += &between.pem();
        let signature = admin.sign(MESSAGE).unwrap();
        assert_eq!(host(&[&ca], &ca, |_| ()).verify(MESSAGE, &signature), Ok(()));
    }
}
