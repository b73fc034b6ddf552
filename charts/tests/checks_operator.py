"""The chart liverank: the operator."""

import json
import re

import readme
import yaml
from chart import (
    CHARTS, CLUSTER_WIDE, CRD, CRD_BOTH, CRD_BOTH_COPY, CRD_COPY, ROOT, cluster_problems, helm, key, matches, of_kind, only, pods, refused,
    render, require, same, unrestricted,
)

ALL_ON = (
    "serviceMonitor.enabled=true", "prometheusRule.enabled=true", "dashboard.enabled=true",
    "networkPolicy.egress.enabled=true", "networkPolicy.egress.apiServerCIDRs={10.0.0.1/32}",
    "commonLabels.team=live", "podLabels.a=b", "podAnnotations.c=d", "serviceAccount.annotations.e=f",
    "service.annotations.g=h", "imagePullSecrets[0].name=registry", "priorityClassName=system-cluster-critical",
    "nodeSelector.disk=ssd", "tolerations[0].operator=Exists", "extraArgs={--log=debug}",
    "allow.images={registry.example.org/*}", "allow.podSecurity=baseline",
    "commonAnnotations.owner=video", "dashboard.annotations.grafana_folder=liverank",
    "extraEnv[0].name=HTTPS_PROXY", "extraEnv[0].value=http://proxy:3128", "extraEnvFrom[0].secretRef.name=more",
    "extraVolumes[0].name=ca", "extraVolumes[0].configMap.name=ca",
    "extraVolumeMounts[0].name=ca", "extraVolumeMounts[0].mountPath=/etc/ssl/extra",
    "podSecurityContext.fsGroupChangePolicy=OnRootMismatch", "tls.secretName=operator-tls",
    "conversion.enabled=true", "conversion.annotations.i=j",
)
BARE = (
    "crds.enabled=false", "rbac.create=false", "serviceAccount.create=false", "serviceAccount.name=mine",
    "podDisruptionBudget.enabled=false", "networkPolicy.enabled=false", "replicas=1",
)
MATRIX = {
    "defaults": (), "everything on": ALL_ON, "everything off": BARE, "one namespace": ("watchNamespace=there",),
    "one namespace, everything on": (*ALL_ON, "watchNamespace=there"),
    "three namespaces, everything on": (*ALL_ON, "watchNamespaces={there,here,beyond}"),
    "other names": ("nameOverride=op", "fullnameOverride=ranking-op"),
}
# The operator's permissions, whole: what it does not use, it does not have.
CHILD = ["get", "list", "watch", "create", "patch", "delete"]
PERMISSIONS = {
    "rankingclusters.liverank.dev": ["list", "watch"], "rankingclusters/status.liverank.dev": ["patch"],
    "deployments.apps": CHILD, "services.": CHILD, "configmaps.": CHILD, "serviceaccounts.": CHILD,
    "poddisruptionbudgets.policy": CHILD, "horizontalpodautoscalers.autoscaling": CHILD,
    "networkpolicies.networking.k8s.io": CHILD, "ingresses.networking.k8s.io": CHILD,
    "httproutes.gateway.networking.k8s.io": CHILD, "servicemonitors.monitoring.coreos.com": CHILD,
    "leases.coordination.k8s.io": ["get", "create", "update"],
    "pods.": ["list", "watch"], "events.events.k8s.io": ["create", "patch"], "events.": ["list"],
}
LEASE = [("leases.coordination.k8s.io", ["create"], None), ("leases.coordination.k8s.io", ["get", "watch", "update"], True),
         ("serviceaccounts/token.", ["create"], True)]
# Values that must not be taken, and what Helm has to name.
WRONG = {
    "replicas=two": "replicas", "replicas=-1": "replicas", "shards=0": "shards", "shards=17": "shards", "operatorClass=": "operatorClass",
    "operatorClass=Prod": "operatorClass", "watchNamespace=a_b": "watchNamespace", "replica=2": "replica",
    "image.repository=": "repository", "image.repository=liverank:1": "repository", "image.digest=sha256:1": "digest",
    "image.pullPolicy=Sometimes": "pullPolicy", "image.name=x": "name", "crds.keep=maybe": "keep",
    "crds.install=true": "install", "log.format=xml": "format", "podDisruptionBudget.maxUnavailable=half": "maxUnavailable",
    "networkPolicy.egress.apiServerPorts={}": "apiServerPorts", "networkPolicy.egress.apiServerPorts={70000}": "apiServerPorts",
    "networkPolicy.egress.apiServerCIDRs={10.0.0.1}": "apiServerCIDRs", "serviceMonitor.interval=often": "interval",
    "extraArgs={run}": "extraArgs", "imagePullSecrets[0].secret=x": "secret",
    "prometheusRule.runbookURL=here": "runbookURL", "resources.memory=1Gi": "memory",
    "serviceAccount.create=false": "serviceAccount.name",
    "allow.image={a}": "image", "allow.podSecurity=lax": "podSecurity", "allow.serviceTypes={Any}": "serviceTypes",
    "podUser=Root": "podUser", "extraEnv[0].value=x": "name", "extraVolumeMounts[0].name=x": "mountPath",
    "image.registry=a b": "registry", "watchNamespaces={a_b}": "watchNamespaces", "watchNamespaces={a,a}": "watchNamespaces",
    "test.reconcile=maybe": "reconcile", "tls.secretName=A_B": "secretName",
    "conversion.enabled=maybe": "enabled", "conversion.secret=x": "secret",
}


def check_lint():
    for chart in ("liverank", "liverank-demo"):
        done = helm("lint", "--strict", CHARTS / chart)
        require(done.returncode == 0, done.stdout + done.stderr)


def check_matrix(values):
    def check():
        for body in render("liverank", *values).values():
            kind, namespace, name = key(body)
            require(name, f"a {kind} without a name")
            require((namespace is None) == (kind in CLUSTER_WIDE), f"{kind} {name} is in namespace {namespace}")
            if kind != "Pod":
                same(body["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm", f"{kind} {name}")
                if "commonLabels.team=live" in values:
                    same(body["metadata"]["labels"].get("team"), "live", f"{kind} {name}'s label")
            if "commonAnnotations.owner=video" in values:
                same(body["metadata"].get("annotations", {}).get("owner"), "video", f"{kind} {name}'s annotation")
        for name, _, spec in pods(render("liverank", *values)):
            same(unrestricted(spec), [], f"{name} by the standard `restricted`")
            same(spec["enableServiceLinks"], False, f"{name}'s enableServiceLinks")
            for container in spec["containers"]:
                same(container["securityContext"]["readOnlyRootFilesystem"], True, f"{name}'s root")
    return check


def check_deployment():
    objects = render("liverank")
    deployment = only(objects, "Deployment")["spec"]
    pod = deployment["template"]["spec"]
    same(deployment["replicas"], 2, "replicas")
    (container,) = pod["containers"]
    same(container["command"], ["/liverank-operator"], "command")
    same(container["args"][0], "run", "its subcommand")
    for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/livez")):
        same(container[probe]["httpGet"], {"path": path, "port": "admin"}, probe)
    same(container["ports"], [{"name": "admin", "containerPort": 9060}], "ports")
    require({"cpu", "memory"} <= container["resources"]["requests"].keys(), "no requests")
    require("memory" in container["resources"]["limits"], "no limit of memory")
    spread = {rule["topologyKey"] for rule in pod["topologySpreadConstraints"]}
    same(spread, {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}, "spread over")


def check_references():
    for values in MATRIX.values():
        objects = render("liverank", *values)
        deployment = only(objects, "Deployment")
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        pod = deployment["spec"]["template"]["spec"]
        selectors = [deployment["spec"]["selector"]["matchLabels"], only(objects, "Service")["spec"]["selector"]]
        selectors += [body["spec"]["selector"]["matchLabels"] for body in of_kind(objects, "PodDisruptionBudget")]
        selectors += [body["spec"]["podSelector"]["matchLabels"] for body in of_kind(objects, "NetworkPolicy")]
        for selector in selectors:
            require(matches(selector, labels), f"{selector} does not select {labels}")
        tests = [it for name, it, _ in pods(objects) if name.endswith(("-test", "-check"))]
        same(len(tests), 1 if "rbac.create=false" in values else 2, "pods of helm test")
        for test in tests:
            require(not any(matches(selector, test) for selector in selectors), "a test's pod is taken for the operator's")
        for monitor in of_kind(objects, "ServiceMonitor"):
            wanted = monitor["spec"]["selector"]["matchLabels"]
            require(matches(wanted, only(objects, "Service")["metadata"]["labels"]), "nothing is scraped")
        account = pod["serviceAccountName"]
        made = [body["metadata"]["name"] for body in of_kind(objects, "ServiceAccount")]
        require(account in made or "serviceAccount.create=false" in values, f"no ServiceAccount {account}")
        for binding in of_kind(objects, "RoleBinding") + of_kind(objects, "ClusterRoleBinding"):
            bound = f"{account}-check" if binding["metadata"]["name"].endswith("-check") else account
            same([(it["name"], it["namespace"]) for it in binding["subjects"]], [(bound, "here")], "who is bound")
            role = (binding["roleRef"]["kind"], binding["metadata"].get("namespace"), binding["roleRef"]["name"])
            require(role in objects, f"no {role}")
        operator = [arg for arg in pod["containers"][0]["args"] if arg.startswith("--operator-labels=")]
        said = dict(pair.split("=") for pair in operator[0].split("=", 1)[1].split(","))
        require(matches(said, labels), f"the operator says that it has {said}")


def granted(role):
    """(resource.group, verbs, whether by name) of each rule, for each resource."""
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield f"{resource}.{group}", rule["verbs"], rule.get("resourceNames")


def check_permissions(values, kind, namespace):
    def check():
        objects = render("liverank", *values)
        roles = [role for role in of_kind(objects, kind) if "here:try-liverank-operator" == role["metadata"]["name"]]
        same(len(roles), 1, f"{kind}s of the operator")
        same(roles[0]["metadata"].get("namespace"), namespace, "its namespace")
        found = list(granted(roles[0]))
        same({name: verbs for name, verbs, _ in found}, PERMISSIONS, "permissions")
        same(len(found), len(PERMISSIONS), "rules")
        lease = only(objects, "Role", "-lease")
        same(lease["metadata"]["namespace"], "here", "the Lease's namespace")
        named = only(objects, "Deployment")["metadata"]["name"]
        same(list(granted(lease)), [(n, v, [named] if k else None) for n, v, k in LEASE], "permissions on Leases")
        args = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
        require(f"--lease-name={named}" in args, f"the Lease is called otherwise: {args}")
        watched = [arg for arg in args if arg.startswith("--watch-namespace")]
        same(watched, [f"--watch-namespace={namespace}"] if namespace else [], "what is watched")
    return check


def check_shards():
    """Each shard's Lease may be renewed, and no other; one shard is said by nothing."""
    most = int(re.search(r"const MAX_SHARDS: u32 = (\d+);", (ROOT / "operator/src/run/shard.rs").read_text())[1])
    schema = json.loads((CHARTS / "liverank" / "values.schema.json").read_text())["properties"]["shards"]
    same(schema["maximum"], most, "the most shards")
    for shards in (1, 2, 3, most):
        objects = render("liverank", f"shards={shards}")
        name = only(objects, "Deployment")["metadata"]["name"]
        args = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
        said = [arg for arg in args if arg.startswith("--shards")]
        same(said, [f"--shards={shards}"] if shards > 1 else [], "what the operator is told")
        (named,) = [names for _, verbs, names in granted(only(objects, "Role", "-lease")) if "watch" in verbs]
        same(named, [name] + [f"{name}-shard-{index}" for index in range(1, shards)], "Leases")


def check_never_granted():
    for values in MATRIX.values():
        for role in of_kind(render("liverank", *values), "Role") + of_kind(render("liverank", *values), "ClusterRole"):
            for name, verbs, _ in granted(role):
                require(not name.startswith("secrets"), f"{role['metadata']['name']} reaches Secrets")
                require("*" not in name and "*" not in verbs, f"{role['metadata']['name']} has a wildcard: {name}")
                require(not {"escalate", "bind", "impersonate"} & set(verbs), f"{name}: {verbs}")


def check_namespaced():
    for extra in ((), ALL_ON):
        objects = render("liverank", "watchNamespace=there", "crds.enabled=false", *extra)
        wide = [name for name in objects if name[0] in CLUSTER_WIDE]
        same(wide, [], "objects of the whole cluster")
    same(of_kind(render("liverank", "rbac.create=false"), "ClusterRole"), [], "ClusterRoles without rbac.create")


def check_namespaces():
    """A Role in each namespace of the list, all alike, and the operator watches these."""
    objects = render("liverank", "watchNamespaces={there,beyond}", "crds.enabled=false")
    same([name for name in objects if name[0] in CLUSTER_WIDE], [], "objects of the whole cluster")
    for kind in ("Role", "RoleBinding"):
        found = [body for body in of_kind(objects, kind) if body["metadata"]["name"] == "here:try-liverank-operator"]
        same([body["metadata"]["namespace"] for body in found], ["there", "beyond"], f"where there is a {kind}")
        require(kind != "Role" or found[0]["rules"] == found[1]["rules"], "they may not do the same")
    args = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    same([arg for arg in args if arg.startswith("--watch")], ["--watch-namespace=there,beyond"], "what is watched")
    policy = only(render("liverank", *ALL_ON, "watchNamespaces={there,beyond}"), "NetworkPolicy")["spec"]
    selected = [peer["namespaceSelector"] for peer in policy["egress"][2]["to"]]
    same(selected, [{"matchLabels": {"kubernetes.io/metadata.name": it}} for it in ("there", "beyond")], "where managers are")
    require("watchNamespace" in refused("liverank", "watchNamespace=a", "watchNamespaces={b}"), "both are taken")


def check_reconcile():
    """helm test makes a RankingCluster where the operator looks, and may do nothing else."""
    for values, namespace in (((), "here"), (("watchNamespace=there",), "there"), (("watchNamespaces={beyond,there}",), "beyond")):
        objects = render("liverank", *values)
        checks = [body for body in objects.values() if body["metadata"]["name"].endswith("-check")]
        same(sorted(body["kind"] for body in checks), ["Pod", "Role", "RoleBinding", "ServiceAccount"], "objects of the check")
        for body in checks:
            same(body["metadata"]["annotations"]["helm.sh/hook"], "test", f"{body['kind']}'s hook")
        role, pod = only(objects, "Role", "-check"), only(objects, "Pod", "-check")
        same(role["metadata"]["namespace"], namespace, "where it may")
        same(list(granted(role)), [("rankingclusters.liverank.dev", ["create", "get", "delete"], None)], "what it may")
        (container,) = pod["spec"]["containers"]
        same(container["command"] + container["args"][:1], ["/liverank-operator", "check"], "what it runs")
        require(f"--namespace={namespace}" in container["args"], f"it looks elsewhere: {container['args']}")
    source = (ROOT / "operator" / "src" / "check.rs").read_text()
    for arg in container["args"][1:]:
        field = arg.split("=")[0].lstrip("-").replace("-", "_")
        require(f"pub {field}: " in source, f"the check has no {arg}")
    same([name for name in render("liverank", "test.reconcile=false") if name[2].endswith("-check")], [], "where it is not wanted")


def check_aggregated():
    to = "rbac.authorization.k8s.io/aggregate-to-"
    objects = render("liverank")
    view, edit = only(objects, "ClusterRole", ":view"), only(objects, "ClusterRole", ":edit")
    same([name for name in ("view", "edit", "admin") if view["metadata"]["labels"].get(to + name)], ["view", "edit", "admin"], "view")
    same([name for name in ("view", "edit", "admin") if edit["metadata"]["labels"].get(to + name)], ["edit", "admin"], "edit")
    for _, verbs, _ in granted(view):
        same(verbs, ["get", "list", "watch"], "verbs of view")
    written = {name for name, _, _ in granted(edit)}
    same(written, {"rankingclusters.liverank.dev", "rankingclusters/scale.liverank.dev"}, "edit")
    same(len(of_kind(render("liverank", "rbac.aggregate=false"), "ClusterRole")), 1, "ClusterRoles without them")


def check_identity():
    """It keeps no secret: what managers know it by is a token of its own ServiceAccount."""
    for values in ((), ("serviceAccount.create=false", "serviceAccount.name=mine")):
        objects = render("liverank", *values)
        same(of_kind(objects, "Secret"), [], "Secrets")
        pod = only(objects, "Deployment")["spec"]["template"]["spec"]
        account = pod["serviceAccountName"]
        require(f"--service-account={account}" in pod["containers"][0]["args"], "as whom it says it runs")
        tokens = [(verbs, names) for role in of_kind(objects, "Role")
                  for name, verbs, names in granted(role) if name == "serviceaccounts/token."]
        same(tokens, [(["create"], [account])], "tokens that it may make")


def check_extras():
    """What is added is there, beside what the chart says."""
    objects = render("liverank", *ALL_ON)
    pod = only(objects, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    same([it["name"] for it in container["env"]], ["POD_NAME", "POD_NAMESPACE", "HTTPS_PROXY"], "variables")
    same(container["envFrom"], [{"secretRef": {"name": "more"}}], "envFrom")
    same({it["name"] for it in pod["volumes"]}, {"allow", "tls", "ca"}, "volumes")
    same({it["name"] for it in container["volumeMounts"]}, {"allow", "tls", "ca"}, "mounts")
    same(pod["securityContext"]["fsGroupChangePolicy"], "OnRootMismatch", "the pods' security context")
    folder = only(objects, "ConfigMap", "-dashboard-overview")["metadata"]["annotations"]["grafana_folder"]
    same(folder, "liverank", "the dashboards' folder")
    other = render("liverank", "podSecurityContext.runAsUser=1000", "securityContext.runAsGroup=7")
    pod = only(other, "Deployment")["spec"]["template"]["spec"]
    same(pod["securityContext"]["runAsUser"], 1000, "a user of one's own")
    same(pod["containers"][0]["securityContext"]["capabilities"], {"drop": ["ALL"]}, "what is not given stays")


def check_allow():
    """What is permitted reaches the operator, in words that it knows."""
    objects = render("liverank", "allow.images={registry.example.org/*}", "allow.podSecurity=baseline")
    said = yaml.safe_load(only(objects, "ConfigMap", "-allow")["data"]["allow.yaml"])
    same(said, {"images": ["registry.example.org/*"], "podSecurity": "baseline"}, "allow.yaml")
    pod = only(objects, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"]
    require(f"--allow-file={mount['mountPath']}/allow.yaml" in container["args"], "the operator does not read it")
    same([volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == mount["name"]],
         [only(objects, "ConfigMap", "-allow")["metadata"]["name"]], "what is mounted")
    fields = set(re.findall(r"(?m)^    pub ([a-z_]+): (?:NamePatterns|HostPatterns|SecurityLevel),", (ROOT / "operator/src/policy.rs").read_text()))
    words = {re.sub("_([a-z])", lambda it: it[1].upper(), field) for field in fields}
    schema = json.loads((CHARTS / "liverank" / "values.schema.json").read_text())
    same(set(schema["properties"]["allow"]["properties"]), words, "fields of allow")
    same(of_kind(render("liverank"), "ConfigMap"), [], "ConfigMaps where nothing is said")


def check_user():
    """OpenShift's restricted-v2 refuses pods with a user of their own."""
    for values, fixed in (((), True), (("podUser=Image",), True), (("podUser=Platform",), False)):
        objects = render("liverank", *values)
        for name, _, spec in pods(objects):
            for field in ("runAsUser", "runAsGroup", "fsGroup"):
                same(field in spec["securityContext"], fixed, f"{name}'s {field} with {values}")
            same(spec["securityContext"]["runAsNonRoot"], True, f"{name} may run as root")
        args = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
        require(f"--pod-user={'image' if fixed else 'platform'}" in args, f"workloads' users with {values}: {args}")
    done = helm("template", "try", CHARTS / "liverank", "--api-versions", "security.openshift.io/v1")
    require("--pod-user=platform" in done.stdout and "runAsUser" not in done.stdout.split("kind: Deployment")[1], "OpenShift is not seen")


def check_crd_copy():
    same(CRD_COPY.read_text() == CRD.read_text(), True, "the chart's copy is crds/rankingcluster.yaml (charts/test --write)")


def check_crd():
    wanted = yaml.safe_load(CRD.read_text())
    found = only(render("liverank"), "CustomResourceDefinition")
    same(found["metadata"].pop("annotations"), {"helm.sh/resource-policy": "keep"}, "annotations")
    same(found["metadata"].pop("labels")["app.kubernetes.io/name"], "liverank-operator", "label")
    del found["spec"]["conversion"]
    require(found == wanted, "what is rendered is not crds/rankingcluster.yaml")
    found = only(render("liverank", "crds.keep=false"), "CustomResourceDefinition")
    require("annotations" not in found["metadata"], "kept all the same")
    same(of_kind(render("liverank", "crds.enabled=false"), "CustomResourceDefinition"), [], "resources")


def check_conversion():
    """v1beta1 is served where it is asked for, by the Service and with the certificate that the operator is told."""
    same(CRD_BOTH_COPY.read_text() == CRD_BOTH.read_text(), True, "the chart's copy is crds/v1beta1/rankingcluster.yaml (charts/test --write)")
    objects = render("liverank", "conversion.enabled=true")
    wanted = yaml.safe_load(CRD_BOTH.read_text())
    found = only(objects, "CustomResourceDefinition")
    service, deployment = only(objects, "Service"), only(objects, "Deployment")
    name = service["metadata"]["name"]
    reference = found["spec"]["conversion"]["webhook"]["clientConfig"]["service"]
    same((reference["namespace"], reference["name"]), ("here", name), "the Service of the webhook")
    reference.update(namespace="liverank", name="liverank-operator")
    same(found["metadata"].pop("annotations"), {"helm.sh/resource-policy": "keep"}, "annotations")
    found["metadata"].pop("labels")
    require(found == wanted, "what is rendered is not crds/v1beta1/rankingcluster.yaml")
    (port,) = [port for port in service["spec"]["ports"] if port["port"] == reference["port"]]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (own,) = [own["containerPort"] for own in container["ports"] if own["name"] == port["targetPort"]]
    require(f"--conversion-listen=0.0.0.0:{own}" in container["args"], "the operator listens elsewhere")
    require(f"--conversion-service={name}" in container["args"], "the operator's certificate is another's")
    admitted = [rule["ports"][0]["port"] for rule in only(objects, "NetworkPolicy")["spec"]["ingress"]]
    same(admitted, [9060, own], "ports that are let in")
    (secret,) = [arg.split("=")[1] for arg in container["args"] if arg.startswith("--conversion-secret=")]
    same(list(granted(only(objects, "Role", "-conversion"))),
         [("secrets.", ["create"], None), ("secrets.", ["get", "update"], [secret])], "permissions on Secrets")
    same(list(granted(only(objects, "ClusterRole", ":conversion"))),
         [("customresourcedefinitions.apiextensions.k8s.io", ["get", "patch"], ["rankingclusters.liverank.dev"])], "permissions on the resource")
    for role in of_kind(objects, "Role") + of_kind(objects, "ClusterRole"):
        reaches = [name for name, _, _ in granted(role) if name.startswith(("secrets", "customresourcedefinitions"))]
        require(not reaches or role["metadata"]["name"].endswith("conversion"), f"{role['metadata']['name']}: {reaches}")
    given = render("liverank", "conversion.enabled=true", "tls.secretName=a", "conversion.annotations.b=c")
    same([key for key in given if key[2].endswith("conversion")], [], "permissions where a certificate is given")
    same(only(given, "CustomResourceDefinition")["metadata"]["annotations"], {"helm.sh/resource-policy": "keep", "b": "c"}, "annotations")
    same([key for key in render("liverank") if key[2].endswith("conversion")], [], "permissions where nothing is converted")


def check_conversion_stays():
    """A roll-back to a revision that serves one version names the webhook as the later one does: what the operator wrote beside it stays."""
    found = {}
    for enabled in ("false", "true"):
        found[enabled] = only(render("liverank", f"conversion.enabled={enabled}"), "CustomResourceDefinition")["spec"]
    same(found["false"]["conversion"], found["true"]["conversion"], "who converts where one version is served")
    same([version["name"] for version in found["false"]["versions"]], ["v1alpha1"], "the versions where one is served")


def check_two_releases():
    def names(**release):
        return {name for name in render("liverank", *ALL_ON, **release) if name[0] != "CustomResourceDefinition"}
    long = "a-release-whose-name-is-as-long-as-helm-lets-it-be-53"
    others = [{"release": "other"}, {"namespace": "there"}, {"release": "liverank"}, {"release": long}]
    for other in others:
        same(names() & names(**other), set(), f"names that {other} shares")
        for kind, _, name in names(**other):
            require(len(name) <= 63 or kind not in ("Service", "Deployment"), f"{kind} {name} is too long")
    one, two = names(release="a"), names(release="b")
    same(one & two, set(), "names that two releases share")


def check_network_policy():
    policy = only(render("liverank"), "NetworkPolicy")["spec"]
    same(policy["policyTypes"], ["Ingress"], "types")
    same(policy["ingress"], [{"ports": [{"protocol": "TCP", "port": 9060}]}], "ingress")
    objects = render("liverank", "networkPolicy.ingressFrom[0].ipBlock.cidr=10.0.0.0/8")
    (rule,) = only(objects, "NetworkPolicy")["spec"]["ingress"]
    given, test = rule["from"]
    same(given, {"ipBlock": {"cidr": "10.0.0.0/8"}}, "who may read the admin port")
    require(matches(test["podSelector"]["matchLabels"], only(objects, "Pod", "-test")["metadata"]["labels"]), "helm test is kept out")
    policy = only(render("liverank", *ALL_ON, "watchNamespace=there"), "NetworkPolicy")["spec"]
    same(policy["policyTypes"], ["Ingress", "Egress"], "types")
    names, api, workloads = policy["egress"]
    same({port["port"] for port in names["ports"]}, {53, 5353}, "names")
    same([port["port"] for port in api["ports"]], [443, 6443], "the API server's ports")
    same(api["to"], [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "the API server")
    same({port["port"] for port in workloads["ports"]}, {6100, 4001}, "managers' and readers' ports")
    same(workloads["to"][0]["namespaceSelector"], {"matchLabels": {"kubernetes.io/metadata.name": "there"}}, "namespace")


def check_wrong_values():
    for values, named in WRONG.items():
        message = refused("liverank", values)
        require(named in message, f"{values}: nothing says {named}: {message}")


def check_image():
    def image(*values):
        return only(render("liverank", *values), "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
    version = re.search(r'(?m)^version = "(.+)"$', (ROOT / "Cargo.toml").read_text())[1]
    same(image(), f"liverank:{version}", "image")
    same(image("image.repository=localhost:5000/x/liverank", "image.tag=t"), "localhost:5000/x/liverank:t", "image")
    same(image("image.registry=mirror.example.org:5000", "image.tag=t"), "mirror.example.org:5000/liverank:t", "image of a registry")
    digest = "sha256:" + "a" * 64
    same(image(f"image.digest={digest}"), f"liverank@{digest}", "image")
    user = re.search(r"(?m)^USER (\d+):", (ROOT / "Dockerfile").read_text())[1]
    same(only(render("liverank"), "Deployment")["spec"]["template"]["spec"]["securityContext"]["runAsUser"], int(user), "user")


def alerts(*values):
    rule = only(render("liverank", "prometheusRule.enabled=true", *values), "PrometheusRule")
    return [alert for group in rule["spec"]["groups"] for alert in group["rules"]]


def check_alerts():
    found = alerts()
    for alert in found:
        require({"summary", "description"} <= alert["annotations"].keys(), f"{alert['alert']} does not say what it is")
        require(alert["labels"]["severity"] in ("critical", "warning", "info"), f"{alert['alert']}: {alert['labels']}")
    # Without Helm the same file is used (testbed/alerts-test tests it): the chart changes nothing but whose operator it is, and that
    # an operator is missed that was never seen.
    plain = yaml.safe_load((CHARTS / "liverank" / "files" / "alerts.yaml").read_text())
    plain = [alert for group in plain["groups"] for alert in group["rules"]]
    operator = 'namespace="here",service="try-liverank-operator"'
    for alert in plain:
        alert["expr"] = alert["expr"].replace('job!=""', operator)
        if alert["alert"] == "LiverankOperatorAbsent":
            alert["expr"] = f"absent(liverank_operator_leader{{{operator}}})\n"
    same(found, plain, "alerts of the chart")
    require(sum(operator in alert["expr"] for alert in found) == 5, "the operator's alerts are not those of the release")
    fewer = [alert["alert"] for alert in alerts("prometheusRule.disabled={LiverankDeadLetters}")]
    same(fewer, [it["alert"] for it in found if it["alert"] != "LiverankDeadLetters"], "alerts without one")
    require("there is no alert LiverankX" in refused("liverank", "prometheusRule.enabled=true", "prometheusRule.disabled={LiverankX}"), "not named")
    linked = alerts("prometheusRule.runbookURL=https://example.org/#")
    same(linked[0]["annotations"]["runbook_url"], f"https://example.org/#{linked[0]['alert']}", "runbook")


def check_reasons():
    """What docs/operations.md explains, the operator says."""
    sources = "\n".join(file.read_text() for file in (ROOT / "operator" / "src").rglob("*.rs"))
    kubernetes = (ROOT / "docs" / "operations.md").read_text().split("# On Kubernetes")[1]
    tables = kubernetes.split("## Conditions")[1].split("## Alerts")[0]
    reasons = set()
    for line in tables.splitlines():
        cells = line.split("|")
        if len(cells) > 3:
            reasons |= set(re.findall(r"`([A-Z][A-Za-z]+)`", cells[1] + (cells[2] if line.count("|") == 4 else "")))
    require(len(reasons) > 40, f"only {sorted(reasons)}")
    missing = sorted(reason for reason in reasons if not re.search(rf'"{reason}"', sources))
    same(missing, [], "reasons that the operator never gives")


def check_metrics():
    """An alert on a metric that nobody has never fires."""
    dashboards = [file.read_text() for file in (CHARTS / "liverank" / "files" / "dashboards").glob("*.json")]
    used = set()
    for text in [alert["expr"] for alert in alerts()] + dashboards:
        used |= set(re.findall(r"\bliverank_([a-z]+)_([a-z_]+)", text))
    require(len(used) > 10, f"only {used}")
    for part, metric in sorted(used):
        folder = {"operator": ROOT / "operator" / "src", "http": ROOT / "runtime" / "src", "process": ROOT / "runtime" / "src"}
        folder = folder.get(part, ROOT / "services" / part / "src")
        sources = "\n".join(file.read_text() for file in folder.rglob("*.rs"))
        name = re.sub(r"_(total|bucket|sum|count)$", "", metric)
        require(re.search(rf'"{name}"', sources), f"{folder.relative_to(ROOT)} registers no {name}")


def check_arguments():
    """Flags of the Deployment are the operator's."""
    sources = "\n".join(file.read_text() for file in (ROOT / "operator" / "src").rglob("*.rs"))
    shell = (ROOT / "runtime" / "src" / "telemetry.rs").read_text()
    args = only(render("liverank", "watchNamespace=there"), "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    for arg in args[1:]:
        variable = "LIVERANK_" + arg.split("=")[0].lstrip("-").replace("-", "_").upper()
        require(variable in sources + shell, f"the operator has no {arg.split('=')[0]} ({variable})")


def check_notes():
    for values in MATRIX.values():
        done = helm("install", "try", CHARTS / "liverank", "--dry-run=client", "--namespace", "here", *[p for v in values for p in ("--set", v)])
        require(done.returncode == 0, done.stderr)
        notes = done.stdout.split("NOTES:")[-1]
        require("helm test try --namespace here" in notes, f"NOTES: {notes}")
        require(("namespace there only" in notes) == ("watchNamespace=there" in values), f"NOTES: {notes}")


def check_test_pod():
    pod = only(render("liverank"), "Pod", "-test")
    same(pod["metadata"]["annotations"]["helm.sh/hook"], "test", "hook")
    (container,) = pod["spec"]["containers"]
    same(container["command"] + container["args"][:1], ["/liverank", "probe"], "what it runs")
    service = only(render("liverank"), "Service")["metadata"]
    for path in ("livez", "readyz"):
        require(f"http://{service['name']}.{service['namespace']}.svc:9060/{path}" in container["args"], f"{path} is not asked")


def check_tls():
    """With a Secret the admin port takes TLS only: whoever asks it has to know."""
    objects = render("liverank", "tls.secretName=operator-tls", "serviceMonitor.enabled=true")
    pod = only(objects, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for flag, file in (("cert", "tls.crt"), ("key", "tls.key")):
        require(f"--tls-{flag}-file=/etc/liverank/tls/{file}" in container["args"], f"--tls-{flag}-file is not given")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        same(container[probe]["httpGet"]["scheme"], "HTTPS", probe)
    same([it["secret"]["secretName"] for it in pod["volumes"] if it["name"] == "tls"], ["operator-tls"], "the mounted Secret")
    (endpoint,) = only(objects, "ServiceMonitor")["spec"]["endpoints"]
    same(endpoint["scheme"], "https", "scheme of the ServiceMonitor")
    service = only(objects, "Service")["metadata"]
    name = f"{service['name']}.{service['namespace']}.svc"
    same(endpoint["tlsConfig"], {"serverName": name, "ca": {"secret": {"name": "operator-tls", "key": "ca.crt"}}}, "who is trusted")
    test = only(objects, "Pod", "-test")["spec"]
    require(f"https://{name}:9060/readyz" in test["containers"][0]["args"], "helm test asks without TLS")
    same(test["volumes"][0]["secret"]["items"], [{"key": "ca.crt", "path": "ca.crt"}], "what helm test is given")


def check_readme(chart):
    def check():
        found, wanted = readme.readme(chart)
        require(found == wanted, f"the table in charts/{chart}/README.md is old (charts/test --write)")
        for path, _, words in readme.described((CHARTS / chart / "values.yaml").read_text()):
            require(words or path.split(".")[-1] in OBVIOUS, f"values.yaml says nothing of {path}")
    return check


# What needs no words of its own beside its neighbours'.
OBVIOUS = {
    "enabled", "image", "labels", "annotations", "interval", "resources", "pullPolicy", "podAnnotations", "podLabels",
    "nodeSelector", "tolerations", "affinity", "size", "storageClass", "database", "level",
}


def check_examples():
    annotations = yaml.safe_load((CHARTS / "liverank" / "Chart.yaml").read_text())["annotations"]
    for example in yaml.safe_load(annotations["artifacthub.io/crdsExamples"]):
        same(cluster_problems(example), [], "the example on Artifact Hub")
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    examples = [body for body in map(yaml.safe_load, blocks) if body.get("kind") == "RankingCluster"]
    require(examples, "README.md has no RankingCluster")
    for example in examples:
        same(cluster_problems(example), [], "the example in README.md")
    for named in yaml.safe_load(annotations["artifacthub.io/crds"]):
        crd = yaml.safe_load(CRD.read_text())
        same((named["name"], named["kind"]), (crd["metadata"]["name"], crd["spec"]["names"]["kind"]), "the resource there")


CHECKS = [
    ("both charts: helm lint --strict", check_lint),
    *[(f"liverank: objects and pods with {name}", check_matrix(values)) for name, values in MATRIX.items()],
    ("liverank: the Deployment has probes, resources, a spread and the operator's command", check_deployment),
    ("liverank: selectors, accounts, roles and the Service find each other", check_references),
    ("liverank: cluster-wide permissions are exactly what the operator uses", check_permissions((), "ClusterRole", None)),
    ("liverank: those in one namespace too", check_permissions(("watchNamespace=there",), "Role", "there")),
    ("liverank: shards have a Lease each", check_shards),
    ("liverank: no Secrets, no wildcards, no way to more", check_never_granted),
    ("liverank: one namespace needs nothing of the whole cluster", check_namespaced),
    ("liverank: a list of namespaces needs no more than one", check_namespaces),
    ("liverank: helm test lets the operator do its work, and may do nothing else", check_reconcile),
    ("liverank: view and edit know RankingClusters", check_aggregated),
    ("liverank: it keeps no secret, and makes tokens for itself only", check_identity),
    ("liverank: what is added is beside what the chart says", check_extras),
    ("liverank: what authors may use reaches the operator", check_allow),
    ("liverank: no user of its own on OpenShift", check_user),
    ("liverank: the chart's copy of the resource is the generated one", check_crd_copy),
    ("liverank: the resource is rendered whole, and kept", check_crd),
    ("liverank: v1beta1 is served and converted where it is asked for", check_conversion),
    ("liverank: who converts is named in the same way where v1beta1 is not served", check_conversion_stays),
    ("liverank: two releases share no name", check_two_releases),
    ("liverank: the network policy", check_network_policy),
    ("liverank: wrong values are refused by name", check_wrong_values),
    ("liverank: the image, its version and its user", check_image),
    ("liverank: each alert is explained, can be left out, and leads to its words", check_alerts),
    ("liverank: each reason of conditions and events that is explained is given", check_reasons),
    ("liverank: alerts and dashboards ask for metrics that exist", check_metrics),
    ("liverank: the operator knows every flag that it is given", check_arguments),
    ("liverank: NOTES", check_notes),
    ("liverank: helm test asks the Service", check_test_pod),
    ("liverank: with a Secret for TLS, all who ask the admin port ask over TLS", check_tls),
    ("liverank: README has every value", check_readme("liverank")),
    ("liverank-demo: README has every value", check_readme("liverank-demo")),
    ("liverank: the examples on Artifact Hub and in README.md are RankingClusters", check_examples),
]
