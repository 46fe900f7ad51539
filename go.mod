module ringfence

go 1.26
