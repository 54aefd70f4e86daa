module acceleratedjob/testbed/coredns

go 1.24.0
