//! The webhook's own certificate: how it is made, when it is renewed, and which authorities the API server is to trust.
//! Pure, but for the randomness of keys.

use std::collections::BTreeMap;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use liverank_runtime::tls::first_certificate_end;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::build::names;

/// The validity of a new certificate, in days.
const VALID_DAYS: i64 = 90;
/// The number of days before the end of its validity at which a certificate is renewed: enough for an operator that
/// does not run for weeks.
const RENEW_DAYS: i64 = 30;
/// Maximal number of authorities in the API server's definition of the webhook: the newest one, the one of the
/// certificate in the Secret, and the one before, whose certificate some replicas may show for some seconds more.
const MAX_AUTHORITIES: usize = 3;
/// The line that ends a certificate in PEM.
const PEM_END: &str = "-----END CERTIFICATE-----";

/// A certificate of the webhook with its key, and the certificate of the authority that signed it. All are PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct HeldCertificate {
    /// The certificate of the authority, in PEM. The authority's key signed only this certificate and is not kept.
    pub authority: String,
    /// The certificate.
    pub certificate: String,
    /// The certificate's key.
    pub key: String,
}

impl HeldCertificate {
    /// Makes an authority, and a certificate of it for a Service, by whose name the API server calls the webhook.
    ///
    /// # Errors
    /// The Service's name cannot be in a certificate.
    pub fn make(service: &str, namespace: &str, now: Timestamp) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        // The time makes names of authorities differ: two of one name would be taken for each other.
        params.distinguished_name.push(DnType::CommonName, format!("{service}.{namespace} {now}"));
        set_validity(&mut params, now);
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let mut params = CertificateParams::new(vec![format!("{service}.{namespace}.svc")])?;
        params.distinguished_name.push(DnType::CommonName, "liverank conversion webhook");
        set_validity(&mut params, now);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(Self { authority, certificate, key: key.serialize_pem() })
    }

    /// Reads the certificate from a Secret; `None` if one of the three parts is missing.
    pub fn of_secret(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |name: &str| String::from_utf8(data.get(name)?.0.clone()).ok();
        Some(Self { authority: text("ca.crt")?, certificate: text("tls.crt")?, key: text("tls.key")? })
    }

    /// Returns the Secret that holds the certificate. `found` is the Secret that exists now: its version is kept, so
    /// that two writers cannot overwrite each other.
    pub fn to_secret(&self, name: &str, found: Option<&Secret>) -> Secret {
        let part = |name: &str, text: &str| (name.to_owned(), ByteString(text.as_bytes().to_vec()));
        let label = (names::APP_NAME_LABEL.to_owned(), "liverank-operator".to_owned());
        Secret {
            metadata: found.map_or_else(
                || ObjectMeta {
                    name: Some(name.to_owned()),
                    labels: Some(BTreeMap::from([label])),
                    ..ObjectMeta::default()
                },
                |found| found.metadata.clone(),
            ),
            type_: found.map_or_else(|| Some("kubernetes.io/tls".to_owned()), |found| found.type_.clone()),
            data: Some(BTreeMap::from([
                part("ca.crt", &self.authority),
                part("tls.crt", &self.certificate),
                part("tls.key", &self.key),
            ])),
            ..Secret::default()
        }
    }

    /// Returns the end of the certificate's validity in seconds since the Unix epoch; 0 if it cannot be read.
    pub fn valid_until_seconds(&self) -> i64 {
        first_certificate_end(self.certificate.as_bytes()).unwrap_or_default()
    }

    /// Returns whether the certificate has to be renewed now.
    pub fn is_renewal_due(&self, now: Timestamp) -> bool {
        self.valid_until_seconds() - now.as_second() < RENEW_DAYS * 24 * 3600
    }

    /// Returns the authorities that the API server is to trust: this certificate's first, then the one whose
    /// certificate is in the Secret (`in_use`), then the latest of those in `told`, which the API server trusts
    /// already. Each renewal that fails adds an authority; none of these may replace the authority of the certificate
    /// in use.
    pub fn authorities(&self, in_use: Option<&str>, told: &str) -> String {
        let mut all = vec![self.authority.trim().to_owned()];
        let told = told.split_inclusive(PEM_END).map(str::trim).filter(|pem| pem.ends_with(PEM_END));
        for former in in_use.map(str::trim).into_iter().chain(told) {
            if all.len() < MAX_AUTHORITIES && !all.iter().any(|known| known == former) {
                all.push(former.to_owned());
            }
        }
        all.join("\n") + "\n"
    }
}

/// Sets the validity of a new certificate. It begins on the day before, because clocks differ.
fn set_validity(params: &mut CertificateParams, now: Timestamp) {
    let today = now.to_zoned(TimeZone::UTC).date();
    let day = |days: i64| {
        let day = today.saturating_add(days.days());
        date_time_ymd(day.year().into(), day.month() as u8, day.day() as u8)
    };
    (params.not_before, params.not_after) = (day(-1), day(VALID_DAYS));
}

#[cfg(test)]
mod tests {
    use liverank_runtime::tls::ListenerTls;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_certificate_is_renewed_a_month_before_its_end() {
        let held = HeldCertificate::make("operator", "liverank", at("2026-03-01T12:00:00Z")).unwrap();
        assert_eq!(held.valid_until_seconds(), at("2026-05-30T00:00:00Z").as_second());
        assert!(!held.is_renewal_due(at("2026-04-29T23:00:00Z")));
        assert!(held.is_renewal_due(at("2026-04-30T01:00:00Z")));
        let broken = HeldCertificate { certificate: "none".to_owned(), ..held };
        assert!(broken.is_renewal_due(at("2026-03-01T12:00:00Z")));
    }

    #[test]
    fn a_secret_keeps_the_certificate() {
        let held = HeldCertificate::make("operator", "liverank", Timestamp::now()).unwrap();
        let mut secret = held.to_secret("conversion", None);
        assert!(HeldCertificate::of_secret(&secret).unwrap() == held);
        secret.metadata.resource_version = Some("7".to_owned());
        assert_eq!(held.to_secret("conversion", Some(&secret)).metadata.resource_version.unwrap(), "7");
        secret.data.as_mut().unwrap().remove("tls.key");
        assert!(HeldCertificate::of_secret(&secret).is_none());
        assert!(HeldCertificate::of_secret(&Secret::default()).is_none());
        let tls = ListenerTls::from_pem(held.certificate.as_bytes(), held.key.as_bytes(), Timestamp::now())
            .unwrap();
        let other = HeldCertificate::make("operator", "liverank", Timestamp::now()).unwrap();
        let mixed = tls.replace_pem(other.certificate.as_bytes(), held.key.as_bytes(), Timestamp::now());
        assert!(mixed.unwrap_err().to_string().contains("not the key of the certificate"));
    }

    #[test]
    fn the_authorities_before_are_told_as_well_and_no_older_ones() {
        let make = || HeldCertificate::make("operator", "liverank", Timestamp::now()).unwrap();
        let all: [_; 4] = std::array::from_fn(|_| make());
        let bundle = |of: &[usize]| -> String {
            of.iter().map(|at| all[*at].authority.trim().to_owned() + "\n").collect()
        };
        assert_eq!(all[0].authorities(None, ""), bundle(&[0]));
        assert_eq!(all[0].authorities(None, &bundle(&[0])), bundle(&[0]));
        assert_eq!(all[1].authorities(None, &bundle(&[0])), bundle(&[1, 0]));
        assert_eq!(all[1].authorities(None, &bundle(&[1, 0])), bundle(&[1, 0]));
        assert_eq!(all[2].authorities(None, &bundle(&[1, 0])), bundle(&[2, 1, 0]));
        assert_eq!(all[3].authorities(None, &bundle(&[2, 1, 0])), bundle(&[3, 2, 1]));
        assert_eq!(all[0].authorities(None, "garbage"), bundle(&[0]));
    }

    #[test]
    fn renewals_that_fail_do_not_drop_the_authority_in_use() {
        let make = || HeldCertificate::make("operator", "liverank", Timestamp::now()).unwrap();
        let in_use = make();
        let mut told = in_use.authorities(None, "");
        // Each leader tells the API server its authority and ends before it can write the Secret.
        for _ in 0..5 {
            told = make().authorities(Some(&in_use.authority), &told);
            assert!(told.contains(in_use.authority.trim()));
        }
        assert_eq!(told.matches(PEM_END).count(), MAX_AUTHORITIES);
    }
}
