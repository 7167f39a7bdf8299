"""Behind `cortex plan`: what is proposed to a cluster, what its operator decides, and the words for both."""
