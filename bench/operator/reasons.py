"""Why a goal is missed: written by hand, and shown on the page next to the missed goal."""

REASONS: dict[str, str] = {  # name of the goal -> a few sentences
    "burst-1x512-indexed": (
        "The API server has no spare CPU during the burst, and shares it with the scheduler "
        "and kwok, which write as soon as there are pods. Apart from pods, the operator needs"
        " a Service, which an Indexed Job alone does not have, and a watch in JSON. Tried "
        "without a gain above the spread: 128 and 256 concurrent requests, connections opened"
        " in advance, bodies in protobuf, a Service without a selector."
    ),
    "burst-64x8-indexed": (
        "In addition to its pods, each job has a Service with its endpoints, which two "
        "controllers write, and its status. An Indexed Job with the Service that its ranks "
        "need is slower. Even without any endpoints, the operator would miss the goal "
        "(tried)."
    ),
    "burst-200x8-indexed": (
        "As for 64 jobs. The more Services a namespace has, the more each pod costs the "
        "scheduler and the endpoints controllers, which go through all of them."
    ),
    "burst-1x512-kubeflow": (
        "The speed of the training-operator is its limit of 20 requests per second; that of "
        "the operator is the capacity of this API server."
    ),
    "writes": (
        "By the metric of the operator, `accelerated_job_writes_total`, such a job has 13 "
        "writes: 8 pods, 1 Service, 3 of its status and 1 event. The API server also counts "
        "an event of another controller."
    ),
}
