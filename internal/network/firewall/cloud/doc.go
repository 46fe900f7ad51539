// Package cloud writes and reads the packet filters of three clouds: security groups of AWS (as a CloudFormation template, and what `aws ec2 describe-security-groups` prints), network security groups of Azure (as a
// template of the Resource Manager, and what `az network nsg show` prints), and firewall rules of Google's virtual private cloud (as a configuration of Terraform in JSON, and what `gcloud compute firewall-rules list` prints).
//
// All three follow connections, and judge what hosts of the site send and what they are sent; what is between other hosts they never see. They never judge what a host says to itself, neighbour discovery, or what the
// cloud itself serves on addresses of its own (DHCP, metadata).
// What the formats mean is from their public documentation; no cloud has judged it.
package cloud
