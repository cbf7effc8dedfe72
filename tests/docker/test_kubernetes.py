"""docker/kuberay: pods against Kubernetes' own schemas, the rest against the fields that KubeRay's v1 API has.

KubeRay's generated schema is 900 kB and isn't here: FIELDS holds the fields of its Go types (ray-operator/apis/ray/v1)
that these manifests may use.
"""

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install -e '.[dev]'")

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "docker/kuberay"
VARIANTS = ("cluster", "job", "cluster-on-shared-disk", "job-on-shared-disk")


def fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """The schema of an object that has these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT, WHOLE, TRUTH, ANY = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}, {"type": "object"}
PARAMETERS = {"type": "object", "additionalProperties": TEXT}  # of ray start: text, numbers too
HEAD = fields(("rayStartParams", "template"), serviceType=TEXT, rayStartParams=PARAMETERS, template=ANY)
WORKERS = fields(
    ("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
    groupName=TEXT, replicas=WHOLE, minReplicas=WHOLE, maxReplicas=WHOLE, numOfHosts=WHOLE, rayStartParams=PARAMETERS,
    template=ANY,
)  # fmt: skip
AUTOSCALER = fields(
    version={"enum": ["v1", "v2"]}, upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    idleTimeoutSeconds=WHOLE, resources=ANY, image=TEXT, env={"type": "array"}, envFrom={"type": "array"},
)  # fmt: skip
CLUSTER = fields(
    ("headGroupSpec",),
    rayVersion=TEXT, authOptions=fields(mode={"enum": ["disabled", "token"]}), enableInTreeAutoscaling=TRUTH,
    autoscalerOptions=AUTOSCALER, headGroupSpec=HEAD, workerGroupSpecs={"type": "array", "items": WORKERS},
)  # fmt: skip
JOB = fields(
    ("entrypoint", "rayClusterSpec"),
    entrypoint=TEXT, submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    submitterConfig=fields(backoffLimit=WHOLE), backoffLimit=WHOLE, activeDeadlineSeconds=WHOLE,
    shutdownAfterJobFinishes=TRUTH, ttlSecondsAfterFinished=WHOLE, rayClusterSpec=CLUSTER,
)  # fmt: skip
FIELDS = {"RayCluster": CLUSTER, "RayJob": JOB}


def built(variant: str) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send: built here by kubectl, which asks no cluster for it."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl isn't installed")
    answer = subprocess.run(
        ["kubectl", "kustomize", str(KUBERAY / variant)],
        env=os.environ | {"KUBECONFIG": os.devnull}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    return list(yaml.safe_load_all(answer.stdout))


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The part of a manifest that describes its Ray cluster."""
    return manifest["spec"] if manifest["kind"] == "RayCluster" else manifest["spec"]["rayClusterSpec"]


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """The specifications of the pods: the head's, then those of each group of workers."""
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def check_pod(spec: dict[str, Any]) -> None:
    """Compare with Kubernetes' schema of pods, in which no unknown field may be."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request) -> list[dict[str, Any]]:
    return built(request.param)


@pytest.fixture(scope="module")
def files() -> dict[str, dict[str, Any]]:
    """The two manifests as they are written."""
    paths = (KUBERAY / "cluster/raycluster.yaml", KUBERAY / "job/rayjob.yaml")
    return {manifest["kind"]: manifest for manifest in (yaml.safe_load(path.read_text()) for path in paths)}


def test_every_manifest_meets_its_schema(variant):
    for manifest in variant:
        if manifest["kind"] in FIELDS:
            assert manifest["apiVersion"] == "ray.io/v1"
            jsonschema.validate(manifest["spec"], FIELDS[manifest["kind"]])
            for spec in pods(cluster_of(manifest)):
                check_pod(spec)
        else:
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_checks_can_fail(files):
    broken = copy.deepcopy(files["RayCluster"])
    broken["spec"]["workerGroupSpecs"][0]["rayStartParams"] = {"num-cpus": 4}
    with pytest.raises(jsonschema.ValidationError, match="4 is not of type 'string'"):
        jsonschema.validate(broken["spec"], CLUSTER)
    spec = copy.deepcopy(pods(files["RayCluster"]["spec"])[0])
    spec["containers"][0]["imagePolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePolicy"):
        check_pod(spec)


def test_the_job_has_the_clusters_pods_and_a_gpu_to_measure_on(files):
    cluster = copy.deepcopy(files["RayCluster"]["spec"])
    cluster["workerGroupSpecs"][0] |= {"replicas": 1, "minReplicas": 1}
    assert files["RayJob"]["spec"]["rayClusterSpec"] == cluster


def test_all_run_ray_of_the_image(files, variant):
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert files["RayCluster"]["spec"]["rayVersion"] == pinned[1]
    images = {
        c["image"] for m in variant if m["kind"] in FIELDS for pod in pods(cluster_of(m)) for c in pod["containers"]
    }
    assert images == {"tune-to-ensemble:gpu"}


def test_scaling_and_safety(files):
    cluster = files["RayCluster"]["spec"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert [group["minReplicas"] for group in cluster["workerGroupSpecs"]] == [0, 0]
    _, gpu, cpu = pods(cluster)
    assert gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in cpu["containers"][0]["resources"]["limits"]
    for pod in pods(cluster):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False
        requests, limits = (pod["containers"][0]["resources"][kind] for kind in ("requests", "limits"))
        assert requests["memory"] == limits["memory"], "Ray takes the limit for what the node has"
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "search-secrets", "optional": True}}]


@pytest.mark.parametrize("variant", ["cluster-on-shared-disk", "job-on-shared-disk"])
def test_the_shared_disk_is_in_every_pod(variant):
    claim, manifest = sorted(built(variant), key=lambda each: each["kind"])
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(cluster_of(manifest)):
        (volume,) = [each for each in pod["volumes"] if each["name"] == "storage"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert {"name": "storage", "mountPath": "/storage"} in pod["containers"][0]["volumeMounts"]
    if manifest["kind"] == "RayJob":
        assert "--storage /storage/" in manifest["spec"]["entrypoint"]


@pytest.mark.parametrize("variant", ["job", "job-on-shared-disk"])
def test_the_jobs_command_has_options_that_the_search_has(variant):
    (manifest,) = [each for each in built(variant) if each["kind"] == "RayJob"]
    words = manifest["spec"]["entrypoint"].split()
    assert words[:3] == ["python", "-m", "tuning.run"]
    shown = subprocess.run(
        [sys.executable, "-m", "tuning.run", "--help"],
        env=os.environ | {"COLUMNS": "200"}, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", shown), option
