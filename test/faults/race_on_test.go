//go:build race

package faults_test

const raceOn = true
