//! What is wrong with pods and with writes, as conditions say it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::apply::Refused;
use super::cache::Pod;
use crate::status::Trouble;

/// Refusals that stay until somebody does something; all others pass.
const LASTING: [&str; 5] = ["ApplyRefused", "Forbidden", "QuotaExceeded", "NameTaken", "KindMissing"];
/// Refusals named in one status: one policy may refuse every object.
const MOST: usize = 10;

/// Pods that no node takes, and pods that do not run: one of each kind for a component, for they are alike.
pub fn of_pods(pods: &[Arc<Pod>]) -> Vec<Trouble> {
    let mut found: BTreeMap<(&'static str, &str), (usize, &str)> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pod.terminating && !pod.ready) {
        let trouble = match (&pod.unschedulable, &pod.trouble) {
            (Some(said), _) => ("Unschedulable", &**said),
            (None, Some(said)) => ("PodsFailing", &**said),
            (None, None) => continue,
        };
        let entry = found.entry((trouble.0, &pod.component)).or_insert((0, trouble.1));
        entry.0 += 1;
        // The same words whatever order pods come in.
        entry.1 = entry.1.min(trouble.1);
    }
    let trouble = |((reason, component), (pods, said)): ((&str, &str), (usize, &str))| {
        let word = if pods == 1 { "pod" } else { "pods" };
        Trouble {
            reason: reason.to_owned(),
            message: format!("{pods} {component} {word}: {said}"),
            stalled: false,
        }
    };
    found.into_iter().map(trouble).collect()
}

/// Writes that the API server refuses.
pub fn of_refusals(refused: &[Refused]) -> Vec<Trouble> {
    let lasts = |reason: &str| LASTING.contains(&reason);
    let mut all: Vec<Trouble> = refused
        .iter()
        // The namespace goes, and all of this with it: nobody has to do anything.
        .filter(|it| it.reason != "NamespaceTerminating")
        .map(|it| Trouble {
            reason: it.reason.into(),
            message: it.message.clone(),
            stalled: lasts(it.reason),
        })
        .collect();
    all.sort_by_key(|trouble| !trouble.stalled);
    all.truncate(MOST);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_comes_first_and_what_goes_by_itself_is_not_told() {
        let refused = |reason, message: &str| Refused { reason, message: message.into() };
        let all = of_refusals(&[
            refused("ApiUnavailable", "a"),
            refused("NamespaceTerminating", "b"),
            refused("QuotaExceeded", "c"),
        ]);
        let words: Vec<_> = all.iter().map(|it| (it.reason.as_str(), it.stalled)).collect();
        assert_eq!(words, [("QuotaExceeded", true), ("ApiUnavailable", false)]);
    }
}
