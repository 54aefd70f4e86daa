"""Why a goal is not reached: written by hand, shown on the page where it is missed."""

REASONS: dict[str, str] = {  # a goal's name -> a few sentences
    "burst-1x512-indexed": "The API server has no CPU left from the first pod to the last, and "
    "shares it with the scheduler and kwok, who write as soon as there are pods. What the operator "
    "asks for beyond its pods is the Service, which an Indexed Job alone has not, and a watch in "
    "JSON. Tried, without a gain above the spread: 128 and 256 requests side by side, connections "
    "opened before, bodies in protobuf, a Service that selects nothing.",
    "burst-64x8-indexed": "A gang's Service, its endpoints, which two controllers write, and its "
    "status come on top of the pods. An Indexed Job that is given the Service its ranks need is "
    "slower. Without any endpoints the operator would still be below the goal (tried).",
    "burst-200x8-indexed": "As for 64 jobs. The more Services a namespace has, the more each pod "
    "costs the scheduler and the controllers of endpoints, who look through all of them.",
    "burst-1x512-kubeflow": "Training-operator's pace is its limit of 20 requests a second; "
    "ours is what this API server can take.",
    "writes": "By the operator's own metric, `accelerated_job_writes_total`, such a job has 13: 8 "
    "pods, 1 Service, 3 of its status and 1 event. The API server counts another's event as well.",
}
