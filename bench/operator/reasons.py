"""Why a goal is not reached: written by hand, shown on the page where it is missed."""

REASONS: dict[str, str] = {  # a goal's name -> one or two sentences
    "burst-1x512-indexed": "As fast as this API server takes the same pods by plain requests, to a "
    "few percent; the goal is above that. From run to run each way's figure differs by a third.",
    "burst-64x8-indexed": "The API server has no CPU left from the first pod to the last: of the "
    "50 writes a job in all, next to 43, a gang's Service, its endpoints, which two controllers "
    "write, and its status come on top, and JSON costs the server more than protobuf. Four times "
    "the workers, and the Service beside the first pod, made a few percent.",
    "burst-200x8-indexed": "As for 64 jobs.",
    "writes": "By the operator's own metric, `accelerated_job_writes_total`, such a job has 13: 8 "
    "pods, 1 Service, 3 of its status and 1 event. The API server counts another's event as well.",
}
