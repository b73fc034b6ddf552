//! Shards: parts of all namespaces, each with a Lease of its own, so that several processes share the work.
//!
//! The shard of a namespace follows from a hash of its name and the number of shards, and from nothing that a process
//! has observed: two processes with the same number of shards always agree, and every namespace is in one shard.
//!
//! Processes with different numbers of shards disagree while a rollout changes the number. So a Lease contains the
//! number that its holder uses, and so does the claim on a cluster ([`super::claim`]).

use std::fmt;

/// The maximal number of shards. A replica watches the Lease of each shard, and each shard has a time series.
pub const MAX_SHARDS: u32 = 16;

/// One of the shards into which all namespaces are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    /// The number of this shard, from 0.
    pub index: u32,
    /// The number of all shards.
    pub shard_count: u32,
}

impl Shard {
    /// The only shard of an operator without shards; it includes all namespaces.
    pub const WHOLE: Self = Self { index: 0, shard_count: 1 };

    /// Returns whether a namespace is in this shard.
    pub fn includes(self, namespace: &str) -> bool {
        shard_of_namespace(namespace, self.shard_count) == self.index
    }

    /// Returns the name of this shard's Lease; `first` is the name of the first shard's Lease. The name does not depend
    /// on the number of shards, so that processes with different numbers of shards share the first Lease.
    pub fn lease_name(self, first: &str) -> String {
        if self.index == 0 { first.to_owned() } else { format!("{first}-shard-{}", self.index) }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} of {}", self.index, self.shard_count)
    }
}

/// Returns the number of the shard that a namespace is in: the 64-bit FNV-1a hash of its name, modulo the number of
/// shards.
pub fn shard_of_namespace(namespace: &str, shards: u32) -> u32 {
    (fnv1a(namespace.as_bytes()) % u64::from(shards.max(1))) as u32
}

/// Returns the 64-bit FNV-1a hash of `bytes`, which is the same for ever and on every machine.
fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// Returns the name that a process writes into a Lease as the holder: its identity, and the number of shards that it
/// uses. With one shard, the name is the identity alone, as releases without shards write it.
pub fn lease_holder(identity: &str, shards: u32) -> String {
    if shards == 1 { identity.to_owned() } else { format!("{identity}/{shards}") }
}

/// Returns the number of shards that the holder of a Lease uses; 1 if the holder names none.
pub fn shards_of_holder(holder: &str) -> u32 {
    let number = holder.rsplit_once('/').and_then(|(_, number)| number.parse().ok());
    number.filter(|number| *number > 1).unwrap_or(1)
}

/// An installation of the operator: all replicas that share Leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The namespace of the installation's Leases.
    pub namespace: String,
    /// The name of the first shard's Lease.
    pub lease_name: String,
}

impl Installation {
    /// Returns the name that a shard of this installation writes into a cluster's claim as the holder.
    pub fn claimant(&self, shard: Shard) -> String {
        if shard.shard_count == 1 { self.to_string() } else { format!("{self}, {shard}") }
    }

    /// Returns the shard of this installation that wrote `holder` into a claim; `None` if another installation did.
    pub fn shard_of_claimant(&self, holder: &str) -> Option<Shard> {
        let rest = holder.strip_prefix(&self.to_string())?;
        if rest.is_empty() {
            return Some(Shard::WHOLE);
        }
        let (index, of) = rest.strip_prefix(", shard ")?.split_once(" of ")?;
        let shard = Shard { index: index.parse().ok()?, shard_count: of.parse().ok()? };
        (shard.index < shard.shard_count && shard.shard_count <= MAX_SHARDS).then_some(shard)
    }
}

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.lease_name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A change of these values changes which shard manages which namespace during an upgrade.
    #[test]
    fn the_shard_of_a_namespace_is_the_same_for_ever() {
        // The published test values of FNV-1a.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        let fixture: BTreeMap<String, [u32; 4]> =
            serde_yaml::from_str(include_str!("../../tests/fixtures/shards.yaml")).unwrap();
        assert!(fixture.len() >= 8);
        for (namespace, shards) in fixture {
            let found = [1, 2, 3, 16].map(|of| shard_of_namespace(&namespace, of));
            assert_eq!(found, shards, "{namespace}");
        }
    }

    #[test]
    fn each_namespace_is_in_one_shard_and_shards_are_of_like_size() {
        const NAMESPACES: u32 = 2_000;
        for of in 1..=MAX_SHARDS {
            let mut sizes = BTreeMap::<u32, u32>::new();
            for namespace in (0..NAMESPACES).map(|at| format!("team-{at}")) {
                let of_it: Vec<u32> = (0..of)
                    .filter(|index| Shard { index: *index, shard_count: of }.includes(&namespace))
                    .collect();
                assert_eq!(of_it.len(), 1, "{namespace}");
                *sizes.entry(of_it[0]).or_default() += 1;
            }
            let fair = NAMESPACES / of;
            assert_eq!(sizes.len(), of as usize);
            assert!(sizes.values().all(|size| size.abs_diff(fair) <= fair / 5), "{of}: {sizes:?}");
        }
    }

    #[test]
    fn one_shard_is_called_as_ever() {
        let ours = Installation { namespace: "system".into(), lease_name: "liverank-operator".into() };
        assert_eq!(Shard::WHOLE.lease_name(&ours.lease_name), "liverank-operator");
        assert_eq!(ours.claimant(Shard::WHOLE), "system/liverank-operator");
        assert_eq!(lease_holder("pod_1a2b3c4d", 1), "pod_1a2b3c4d");
        assert_eq!(shards_of_holder("a/pod_1a2b3c4d"), 1);
        assert_eq!(
            Shard { index: 2, shard_count: 3 }.lease_name(&ours.lease_name),
            "liverank-operator-shard-2"
        );
    }

    #[test]
    fn who_wrote_a_lease_or_a_claim_can_be_read_in_it() {
        let ours = Installation { namespace: "system".into(), lease_name: "op".into() };
        for of in 1..=MAX_SHARDS {
            assert_eq!(shards_of_holder(&lease_holder("pod_1", of)), of);
            for index in 0..of {
                let shard = Shard { index, shard_count: of };
                assert_eq!(ours.shard_of_claimant(&ours.claimant(shard)), Some(shard));
            }
        }
        let others =
            ["system/op2", "tv/op", "system/op, shard 3 of 3", "system/op, shard 0 of 99", "system/op, x"];
        for holder in others {
            assert_eq!(ours.shard_of_claimant(holder), None, "{holder}");
        }
    }
}
