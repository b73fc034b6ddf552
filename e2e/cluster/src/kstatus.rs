//! The published rules by which Flux, Argo CD and `helm --wait` read a resource that they do not know (kstatus of
//! sigs.k8s.io/cli-utils): the observed generation, and the conditions `Stalled`, `Reconciling` and `Ready`.

use serde_json::Value;

use crate::kube::status_condition;

/// Whether these rules say that the resource is as it should be ("Current").
pub fn is_current(resource: &Value) -> bool {
    let condition =
        |name: &str| status_condition(resource, name).map(|it| it["status"].as_str().unwrap_or_default());
    let observed = &resource["status"]["observedGeneration"];
    let is_observed = observed.is_null() || *observed == resource["metadata"]["generation"];
    is_observed
        && resource.pointer("/metadata/deletionTimestamp").is_none()
        && condition("Stalled") != Some("True")
        && condition("Reconciling") != Some("True")
        && condition("Ready").is_none_or(|status| status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resource_is_current_by_its_generation_and_three_conditions() {
        let resource = |observed: i64, conditions: &[(&str, &str)]| {
            let conditions: Vec<Value> =
                conditions.iter().map(|(kind, status)| json!({"type": kind, "status": status})).collect();
            json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "conditions": conditions}})
        };
        let ready = [("Ready", "True"), ("Reconciling", "False"), ("Stalled", "False"), ("Degraded", "True")];
        assert!(is_current(&resource(2, &ready)));
        assert!(!is_current(&resource(1, &ready)));
        for (kind, status) in
            [("Ready", "False"), ("Ready", "Unknown"), ("Reconciling", "True"), ("Stalled", "True")]
        {
            let mut conditions = ready;
            conditions.iter_mut().filter(|it| it.0 == kind).for_each(|it| it.1 = status);
            assert!(!is_current(&resource(2, &conditions)), "{kind} {status}");
        }
    }
}
