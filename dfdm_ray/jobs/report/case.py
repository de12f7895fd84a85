"""The examination of a video in CASE/UCO 1.4 (JSON-LD), for exchange with other forensic tools.

It has the shape of the CASE project's example of a multimedia classification: tool and configuration ->
analysis of a file -> one result for each face. Ids are the same for the same file, checkpoint and settings.
"""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from dfdm_ray.io.terminal import visible
from dfdm_ray.models.verdict import Verdict

Node = dict[str, Any]

_UCO = "https://ontology.unifiedcyberontology.org/uco"
_CONTEXT = {
    "kb": "http://example.org/kb/",
    **{f"uco-{part}": f"{_UCO}/{part}/" for part in ("action", "analysis", "configuration", "core")},
    **{f"uco-{part}": f"{_UCO}/{part}/" for part in ("observable", "tool", "types")},
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
_WITH_CONFIDENCE: tuple[Verdict, ...] = ("attributed", "real")
"""Verdicts that assert one class."""


def case_of(content: Mapping[str, Any]) -> Node:
    """Return the content of a page as a CASE graph."""
    file, method = content["file"], content["method"]
    same = json.dumps([method["checkpoint_sha256"], method["settings"]], sort_keys=True)
    video = f"{same} {content['video']['video_id']} {file['fingerprint']}"
    tool, target = _id("tool", same), _id("file", video)
    analysis = _id("analysis", f"{video} {method['scored_from']}")
    results = [_result(face, number, analysis) for number, face in enumerate(content["faces"])]
    if not results:
        results = [_result(content["answer"], 0, analysis)]
    times = {"uco-action:startTime": method["scored_from"], "uco-action:endTime": method["scored_until"]}
    return {
        "@context": _CONTEXT,
        "@graph": [
            _tool(tool, method, same),
            _file(target, content),
            {
                "@id": analysis,
                "@type": "uco-analysis:Analysis",
                "uco-core:name": "attribution of a face-swap video to a generator, automated",
                **{name: _typed("dateTime", time) for name, time in times.items() if time},
                "uco-action:instrument": {"@id": tool},
                "uco-action:object": {"@id": target},
                "uco-action:result": [{"@id": result["@id"]} for result in results],
            },
            *results,
        ],
    }


def _id(kind: str, of: str) -> str:
    return f"kb:{kind}-{uuid.uuid5(uuid.NAMESPACE_URL, f'dfdm-ray {kind} {of}')}"


def _typed(kind: str, value: object) -> Node:
    return {"@type": f"xsd:{kind}", "@value": str(value)}


def _tool(name: str, method: Mapping[str, Any], same: str) -> Node:
    entries = {
        "checkpoint": method["checkpoint"],
        "checkpoint_sha256": method["checkpoint_sha256"],
        **method["settings"],
    }
    return {
        "@id": name,
        "@type": ["uco-tool:AnalyticTool", "uco-tool:ConfiguredTool"],
        "uco-core:name": method["tool"],
        "uco-tool:toolType": method["network"],
        "uco-tool:version": method["tool_version"],
        "uco-configuration:usesConfiguration": {
            "@id": _id("configuration", same),
            "@type": "uco-configuration:Configuration",
            "uco-configuration:configurationEntry": [
                {
                    "@id": _id("configuration-entry", f"{same} {key}"),
                    "@type": "uco-configuration:ConfigurationEntry",
                    "uco-configuration:itemName": key,
                    "uco-configuration:itemValue": visible(str(value)),
                }
                for key, value in entries.items()
            ],
        },
    }


def _file(name: str, content: Mapping[str, Any]) -> Node:
    file, video = content["file"], content["video"]
    digest = file.get("sha256")
    hashed: Node = {
        "@id": _id("hash", name),
        "@type": "uco-types:Hash",
        "uco-types:hashMethod": "SHA256",
        "uco-types:hashValue": _typed("hexBinary", digest),
    }
    size = _typed("integer", file["size_bytes"])
    return {
        "@id": name,
        "@type": "uco-observable:File",
        "uco-core:hasFacet": [
            {
                "@id": _id("file-facet", name),
                "@type": "uco-observable:FileFacet",
                "uco-observable:fileName": visible(video["video_id"].rpartition("/")[2]),
                "uco-observable:filePath": visible(video["uri"]),
                "uco-observable:sizeInBytes": size,
            },
            {
                "@id": _id("content-data-facet", name),
                "@type": "uco-observable:ContentDataFacet",
                "uco-observable:sizeInBytes": size,
                **({"uco-observable:hash": hashed} if digest else {}),
            },
        ],
    }


def _result(answer: Mapping[str, Any], number: int, analysis: str) -> Node:
    """Return the result about one face, or about a video without one."""
    verdict, strength = answer["verdict"], answer["strength"]
    texts = [f"{answer['headline']}.", answer["meaning"], strength["sentence"] if strength else ""]
    classification: Node = {
        "@id": _id("artifact-classification", f"{analysis} {number}"),
        "@type": "uco-analysis:ArtifactClassification",
        "uco-analysis:class": visible(answer["headline"]),
    }
    if verdict in _WITH_CONFIDENCE:
        probability = max(one["probability"] for one in answer["classes"])
        classification["uco-analysis:classificationConfidence"] = _typed("decimal", f"{probability:.9f}")
    facet = {
        "@id": _id("artifact-classification-result-facet", f"{analysis} {number}"),
        "@type": "uco-analysis:ArtifactClassificationResultFacet",
        "uco-analysis:classification": classification,
    }
    return {
        "@id": _id("analytic-result", f"{analysis} {number}"),
        "@type": "uco-analysis:AnalyticResult",
        "uco-core:name": f"face {number + 1}" if "classes" in answer else "no face",
        "uco-core:description": visible(" ".join(filter(None, texts))),
        "uco-analysis:originatingAnalysis": {"@id": analysis},
        **({} if verdict == "rejected" else {"uco-core:hasFacet": facet}),
    }
